// What sessions and bindings of ONNX Runtime share: the
// loaded library, and handles that free themselves.
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <string>
#include <utility>

#include "flagdit/error.h"
#include "flagdit/onnxruntime.h"

namespace flagdit {

struct OnnxRuntime::Library {
  explicit Library(const std::string& path);
  ~Library();

  const OrtApiBase* base = nullptr;
  const OrtApi* api = nullptr;
  OrtEnv* env = nullptr;
  OrtMemoryInfo* memory = nullptr;  // of the CPU

  // Throws Error with what a status says of doing
  // `what` to the graph `name`; nothing if it is null.
  void check(OrtStatus* status, const std::string& name, const char* what) const;
};

using OnnxLibrary = std::shared_ptr<const OnnxRuntime::Library>;

// A handle of the library, and how it is released.
template <typename T>
class OnnxHandle {
 public:
  OnnxHandle() = default;
  explicit OnnxHandle(void(ORT_API_CALL* release)(T*)) : release_(release) {}
  OnnxHandle(OnnxHandle&& other) noexcept : value_(other.value_), release_(other.release_) {
    other.value_ = nullptr;
  }
  OnnxHandle& operator=(OnnxHandle&& other) noexcept {
    std::swap(value_, other.value_);
    std::swap(release_, other.release_);
    return *this;
  }
  ~OnnxHandle() {
    if (value_ != nullptr) release_(value_);
  }
  T** out() { return &value_; }
  T* get() const { return value_; }

 private:
  T* value_ = nullptr;
  void(ORT_API_CALL* release_)(T*) = nullptr;
};

DType from_onnx(ONNXTensorElementDataType type);
ONNXTensorElementDataType to_onnx(DType dtype);

std::shared_ptr<Session> open_session(OnnxLibrary library, const GraphBytes& graph,
                                      const OnnxOptions& options);

}  // namespace flagdit
