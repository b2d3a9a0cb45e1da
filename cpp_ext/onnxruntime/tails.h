// How the operators of a session and who calls it agree on tails, past ONNX Runtime, which knows
// inputs and outputs only. Both sides are on one thread: the runtime makes kernels on the thread that
// makes the session, and calls them on the one that runs it. Where it did not, nothing would be found
// or taken, and that is looked for.
#pragma once

#include <cstddef>
#include <set>
#include <string>

#include "flagdit/tails.h"

namespace flagdit::onnxruntime {

// While a session is made: the ports of the tails that its operators can find.
class FoundTails {
 public:
  FoundTails();
  ~FoundTails();
  FoundTails(const FoundTails&) = delete;
  FoundTails& operator=(const FoundTails&) = delete;

  const std::set<std::string>& ports() const { return ports_; }
  // For an operator: of this thread's session, if one is being made by flagdit.
  static void add(const std::string& port);

 private:
  std::set<std::string> ports_;
  FoundTails* before_;
};

// While it runs: the tails of the call.
class CalledTails {
 public:
  explicit CalledTails(const Tails& tails);
  ~CalledTails();
  CalledTails(const CalledTails&) = delete;
  CalledTails& operator=(const CalledTails&) = delete;

  // Whether every cache was asked for once.
  bool all_taken() const { return taken_ == tails_.caches.size(); }
  // For an operator: of this thread's call; null if it was given none.
  static const Tails* now();
  // One of its caches. Throws std::invalid_argument if there is none of that port.
  static KeptRows take(const std::string& port);

 private:
  const Tails& tails_;
  size_t taken_ = 0;
  CalledTails* before_;
};

}  // namespace flagdit::onnxruntime
