// One compiled graph that can run: what it takes and gives, and memory that is bound to it. A
// backend is one implementation of these two classes (cpp_ext/backends).
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "flagdit/tensor.h"

namespace flagdit {

// A size, or a letter for one that the caller chooses: A active slots, M cached ones, N tokens, R
// rows, T text tokens, S evaluations.
using Axis = std::variant<int64_t, std::string>;

// An input or output. Its first axis says what it is: A lives in slots; M is the tail of a cache,
// whose twin output ends in _head; R is a condition; S has an entry an evaluation; N one a token.
struct Port {
  std::string name;
  DType dtype;
  std::vector<Axis> axes;
  bool output;

  // Whether the first axis is this letter.
  bool starts(const char* letter) const;
  bool has(const char* letter) const;
};

struct Bound {
  std::string name;
  Tensor tensor;
  std::shared_ptr<const void> memory{};  // what the tensor is in, for those who keep it; or none
};

// What a graph gave, in memory of its own.
struct Output {
  std::string name;
  Tensor tensor;
  std::shared_ptr<const void> memory;
};

// Inputs and outputs at fixed addresses: running it copies nothing. Does not own their memory.
class Binding {
 public:
  virtual ~Binding() = default;
  // Runs the graph once. Throws Error if the graph or the backend is at fault.
  virtual void run(Stream stream) = 0;
};

// A graph that is loaded, and owns its weights: destroy it to free them. Threads may share it.
class Session {
 public:
  virtual ~Session() = default;
  virtual const std::vector<Port>& ports() const = 0;
  virtual Device device() const { return Device::cpu; }
  // Binds every port, by name, for a graph that runs often. Throws Error if it takes no such shape.
  virtual std::unique_ptr<Binding> bind(const std::vector<Bound>& tensors) = 0;
  // Runs once, for a graph that makes what it gives: sizes of outputs need not be known.
  virtual std::vector<Output> run(const std::vector<Bound>& inputs) = 0;

  // The port of that name. Throws Error if there is none.
  const Port& port(const std::string& name) const;

  std::string name;                   // of the graph, for messages
  std::string backend = "none";       // such as onnxruntime-cpu
  std::string precision = "float32";  // what it multiplies in
};

std::string to_string(const Axis& axis);
std::string to_string(const std::vector<Axis>& axes);

}  // namespace flagdit
