// SHA-256 with the instructions that the CPU has for it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace flagdit {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(const void* data, size_t size);
  // Of all so far, 64 hexadecimal digits. Once.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256(const void* data, size_t size);

}  // namespace flagdit
