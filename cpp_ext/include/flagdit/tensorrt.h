// TensorRT 10.3 and later, from a library that is found when the program runs. It must be of the
// major version that this was compiled with the headers of, and no older.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "flagdit/session.h"

namespace flagdit {

// Whether this build has the backend. Says nothing about whether TensorRT is installed.
bool with_tensorrt();

// An engine as it was built, and what the manifest says of it.
struct EnginePlan {
  std::string name;   // of the graph, for messages
  const void* bytes;  // that someone else keeps, until it is open
  size_t size;
  std::vector<Port> ports;            // a plan has sizes, and no letters
  std::string precision = "float16";  // what it multiplies in
};

// How sessions bind. Every address must be a multiple of 256 bytes, which head_multiple of model.h
// takes care of, that of an empty tail, too. One binding is an execution context of its own, so
// that each captured shape has one; they run in turn, since they share their scratch memory. Before
// it is captured, a binding must have run once.
class TensorRt {
 public:
  // By default libnvinfer.so of the headers' major version. Throws Error(backend) if the library is
  // not there or of another version, if there is no GPU, or if this build has no TensorRT.
  explicit TensorRt(const std::string& library = "");

  std::string version() const;  // such as 10.16.2
  // Throws Error: of the backend if TensorRT refuses the plan, as it does for another GPU or
  // version, of the bundle if the plan has other ports. Sessions may outlive this.
  std::shared_ptr<Session> open(const EnginePlan& plan) const;

  struct Library;

 private:
  std::shared_ptr<const Library> library_;
};

}  // namespace flagdit
