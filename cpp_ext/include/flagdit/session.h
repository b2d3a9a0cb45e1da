// One compiled graph that can run: what it takes and gives, and memory that is bound to it. A
// backend is one implementation of these two classes (cpp_ext/backends).
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "flagdit/tensor.h"

namespace flagdit {

struct Tails;

// A size, or a letter for one that the caller chooses: A active slots, M cached ones, N tokens, R
// rows, T text tokens, S evaluations.
using Axis = std::variant<int64_t, std::string>;

// An input or output. Its first axis says what it is: A lives in slots; M is the tail of a cache,
// whose twin output ends in _head; T is what a text adds to a cache, and ends in _text; R is a
// condition; S has an entry an evaluation; N one a token.
struct Port {
  std::string name;
  DType dtype;
  std::vector<Axis> axes;
  bool output;

  // Whether the first axis is this letter.
  bool starts(const char* letter) const;
  bool has(const char* letter) const;
  // Whether it is the tail of a cache.
  bool tail() const { return !output && starts("M"); }
  // Whether it is (R, T, ...), a text that a step computes: with no token in one whose text rests.
  bool text() const { return !output && starts("R") && axes.size() > 1 && axes[1] == Axis("T"); }
  // Whether it has a row for each sample behind its first axis: (A, R, ...).
  bool by_row() const { return axes.size() > 1 && axes[1] == Axis(std::string("R")); }
};

// A tensor by the name of its port, and what keeps its memory for those who have this; none, if
// somebody else does.
struct Bound {
  std::string name;
  Tensor tensor;
  std::shared_ptr<const void> memory{};
};

// The one of that name; null if there is none.
const Port* find(const std::vector<Port>& ports, const std::string& name);
const Bound* find(const std::vector<Bound>& tensors, const std::string& name);
// The output that the head of a cache is written to, by the name of its tail; none if that is no
// name of a tail.
std::optional<std::string> head_of(const std::string& tail);
// The output that gives what the text adds to a cache, (T, R, ...), by the name of the tail; null if
// the graph gives none, as of a model whose text is no stream of its own.
std::optional<std::string> text_of(const std::string& tail);
const Port* text_of(const std::vector<Port>& ports, const Port& tail);

// Inputs and outputs at fixed addresses: running it copies nothing. Does not own their memory.
class Binding {
 public:
  virtual ~Binding() = default;
  // Runs the graph once; on a GPU, enqueues it. Throws Error if the graph or the backend is at
  // fault.
  virtual void run(Stream stream) = 0;
  // The same on a CPU, for a session that finds its tails: what is bound as tails is not read, and
  // what `tails` keeps of the head is written. Throws Error, too, if the graph did not take them.
  virtual void run_with(const Tails& tails);
  // Whether it can be captured in a CUDA graph now: it neither allocates nor waits any more.
  virtual bool settled() const { return false; }
};

// A graph that is loaded, and owns its weights: destroy it to free them. Threads may share it.
class Session {
 public:
  virtual ~Session() = default;
  virtual const std::vector<Port>& ports() const = 0;
  // Where what is bound lies; what `run` takes and gives is the host's.
  virtual Device device() const { return Device::cpu; }
  // That calls are enqueued on; a CPU has none.
  virtual Stream stream() const { return nullptr; }
  // Held while work is enqueued on the stream, so that no thread captures that of another.
  std::mutex& turn() { return turn_; }
  // Binds every port, by name, for a graph that runs often. Throws Error if it takes no such shape.
  virtual std::unique_ptr<Binding> bind(const std::vector<Bound>& tensors) = 0;
  // Runs once, for a graph that makes what it gives, in memory of its own: sizes of outputs need not
  // be known.
  virtual std::vector<Bound> run(const std::vector<Bound>& inputs) = 0;
  // Whether bindings run with Tails (tails.h): if so, all caches are (N, R, G, d) in bf16.
  virtual bool finds_tails() const { return false; }

  // The port of that name. Throws Error if there is none.
  const Port& port(const std::string& name) const;

  std::string name;                   // of the graph, for messages
  std::string backend = "none";       // such as onnxruntime-cpu
  std::string precision = "float32";  // what it multiplies in
  // That texts are filled up to multiples of, if the model can leave tokens out: few lengths mean
  // few shapes, whose steps are captured already, and kernels want a multiple of four.
  int64_t lengths = 1;

 private:
  std::mutex turn_;
};

std::string to_string(const Axis& axis);
std::string to_string(const std::vector<Axis>& axes);

}  // namespace flagdit
