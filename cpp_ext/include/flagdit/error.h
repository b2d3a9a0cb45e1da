// What a user can mend. The text says what was wrong, what was got, what is allowed and the next
// command: it is what the user reads, in every language.
#pragma once

#include <stdexcept>
#include <string>

namespace flagdit {

enum class Fault {
  request,  // a prompt, size, step count or ratio that cannot be served
  bundle,   // a file is missing, damaged, or of another version
  backend,  // what should compute is not installed, or cannot run here
  number,   // a run came to values that are no numbers
  output,   // a result cannot be written
};

// Misuse by a programmer, such as an array of another shape, is a std::invalid_argument.
class Error : public std::runtime_error {
 public:
  Error(Fault fault, const std::string& text) : std::runtime_error(text), fault(fault) {}

  const Fault fault;
};

}  // namespace flagdit
