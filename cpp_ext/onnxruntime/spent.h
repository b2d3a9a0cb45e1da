// Weights that operators lay out anew when a session is made. What ONNX Runtime holds of them nobody
// reads again, so its memory goes back to the system: otherwise a session would take twice its
// weights as long as it lives.
#pragma once

#include <cstddef>
#include <set>
#include <string>

namespace flagdit::onnxruntime {

// While a session is made by flagdit, on the thread that makes it (see tails.h).
class Spent {
 public:
  // Values that one operator of flagdit reads, and nothing else (flagdit/readers.h); int8 weights
  // are no outputs, since no port is int8.
  explicit Spent(std::set<std::string> read_once);
  ~Spent();
  Spent(const Spent&) = delete;
  Spent& operator=(const Spent&) = delete;

  // For an operator that needs an initializer no more, by the name that the graph has for it: its
  // whole pages become zeros that take no memory, unless another reads it, or flagdit makes no
  // session here: then it may be memory of someone else.
  static void add(const std::string& name, const void* data, size_t bytes);

 private:
  std::set<std::string> read_once_;
  Spent* before_;
};

}  // namespace flagdit::onnxruntime
