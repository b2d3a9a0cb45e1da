#include "flagdit/tensorrt.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <utility>

#include "tensorrt_library.h"

namespace flagdit {
namespace {

constexpr int kLeastVersion = 100300;  // 10.3: contexts whose memory is the caller's
constexpr int kHeaders = NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH;
static_assert(kHeaders >= kLeastVersion, "needs the headers of TensorRT 10.3 or later");

std::string text_of(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

[[noreturn]] void refuse(const std::string& text) { throw Error(Fault::backend, text); }

// Stays loaded as long as the process: threads of the library may be in it to the end.
void* loaded(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library != nullptr) return library;
  const char* reason = dlerror();
  refuse("TensorRT cannot be loaded (" + first_line(reason == nullptr ? path : reason) +
         "); install it, or name its library");
}

template <typename Function>
Function entry(void* library, const char* name, const std::string& path) {
  const auto function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) refuse(path + " is no library of TensorRT");
  return function;
}

// Without a driver TensorRT makes a runtime that is neither null nor valid.
void check_gpu() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return;
  cudaGetLastError();
  refuse("TensorRT needs an NVIDIA GPU and its driver (" +
         std::string(status == cudaSuccess ? "there is no GPU" : cudaGetErrorString(status)) +
         "); use another backend, such as onnxruntime-cpu");
}

}  // namespace

bool with_tensorrt() { return true; }

void TensorRtLog::log(Severity severity, const char* text) noexcept {
  if (severity > Severity::kERROR) return;
  const std::lock_guard<std::mutex> guard(mutex_);
  try {
    last_ = text;
  } catch (const std::exception&) {  // no memory for the words: the failure is still told
  }
}

std::string TensorRtLog::taken() {
  const std::lock_guard<std::mutex> guard(mutex_);
  const std::string text = first_line(std::exchange(last_, {}));
  return text.empty() ? text : " (" + text + ")";
}

TensorRt::Library::Library(const std::string& said) {
  const std::string path =
      said.empty() ? "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR) : said;
  check_gpu();
  void* library = loaded(path);
  version = entry<int32_t (*)()>(library, "getInferLibVersion", path)();
  if (version / 10000 != NV_TENSORRT_MAJOR || version < kHeaders) {
    refuse("TensorRT is " + text_of(version) + "; allowed are " + text_of(kHeaders) +
           " and later of version " + std::to_string(NV_TENSORRT_MAJOR) +
           ", which this was compiled for");
  }
  const auto create =
      entry<void* (*)(void*, int32_t)>(library, "createInferRuntime_INTERNAL", path);
  runtime.reset(static_cast<nvinfer1::IRuntime*>(
      create(static_cast<nvinfer1::ILogger*>(&log), NV_TENSORRT_VERSION)));
  if (runtime == nullptr) fail("TensorRT does not start");
}

void TensorRt::Library::fail(const std::string& what) const { refuse(what + log.taken()); }

TensorRt::TensorRt(const std::string& library)
    : library_(std::make_shared<const Library>(library)) {}

std::string TensorRt::version() const { return text_of(library_->version); }

std::shared_ptr<Session> TensorRt::open(const EnginePlan& plan) const {
  return open_tensorrt(library_, plan);
}

}  // namespace flagdit
