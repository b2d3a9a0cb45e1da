// What sessions and bindings of TensorRT share: the loaded library, and what it last complained of.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <mutex>
#include <string>

#include "flagdit/error.h"
#include "flagdit/tensorrt.h"

namespace flagdit {

// Keeps the last error: TensorRT's functions say no more than that they failed.
class TensorRtLog : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override;
  // In brackets, or nothing; forgets it.
  std::string taken();

 private:
  std::mutex mutex_;
  std::string last_;
};

struct TensorRt::Library {
  explicit Library(const std::string& path);

  int version = 0;  // 10000 major + 100 minor + patch
  mutable TensorRtLog log;
  std::unique_ptr<nvinfer1::IRuntime> runtime;

  // Throws Error(backend): what could not be done, and why TensorRT says it could not.
  [[noreturn]] void fail(const std::string& what) const;
};

using TensorRtLibrary = std::shared_ptr<const TensorRt::Library>;

std::shared_ptr<Session> open_tensorrt(TensorRtLibrary library, const EnginePlan& plan);

}  // namespace flagdit
