// ONNX Runtime through its C interface, from a library that is found when the program runs: that of
// an installed Python package, of the system, or one that is given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "flagdit/session.h"

namespace flagdit {

// Bytes that someone else keeps.
struct Bytes {
  const void* data = nullptr;
  size_t size = 0;
};

// A graph and the files that its weights are in: the runtime reads no file by itself, and copies
// what it needs, so that none of it need be kept when the session is there.
struct GraphBytes {
  struct File {
    std::string name;  // as the graph calls it
    Bytes bytes;
  };

  std::string name;  // for messages
  Bytes content;
  std::vector<File> data{};
};

struct OnnxOptions {
  std::optional<int> threads{};       // all cores, unless said
  std::string precision = "float32";  // what the graph multiplies in
  // For `denoise`: attention takes some queries at a time, so that its scores do not take memory
  // that grows with the square of the tokens, and no block of memory is kept for each shape beside
  // what the first run took. The results are the same to the bit.
  bool lean = false;
  // A GPU needs a library with its CUDA provider, and a build of flagdit with CUDA. With `lean`, a
  // graph of which a part would run on the CPU is refused.
  Device device = Device::cpu;
};

class OnnxRuntime {
 public:
  // Throws Error(backend) if the library is not there, or is older than this was compiled for.
  explicit OnnxRuntime(const std::string& library);
  ~OnnxRuntime();
  OnnxRuntime(const OnnxRuntime&) = delete;
  OnnxRuntime& operator=(const OnnxRuntime&) = delete;

  std::string version() const;  // such as 1.32.0
  bool has_cuda() const;  // whether its CUDA provider lies beside it; not whether that can start
  // Throws Error: of the bundle if the bytes are no graph, of the backend if it
  // cannot run here. Sessions may outlive this.
  std::shared_ptr<Session> open(const GraphBytes& graph, const OnnxOptions& options) const;

  struct Library;

 private:
  std::shared_ptr<const Library> library_;
};

}  // namespace flagdit
