#include "flagdit/onnxruntime.h"

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <mutex>
#include <utility>

#include "onnxruntime_library.h"

namespace flagdit {
namespace {

constexpr std::array<std::pair<DType, ONNXTensorElementDataType>, 8> kTypes{{
    {DType::boolean, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL},
    {DType::i32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
    {DType::i64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
    {DType::u64, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64},
    {DType::f16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    {DType::bf16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16},
    {DType::f32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
    {DType::f64, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE},
}};

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// The entry point of a library, which stays loaded as long as the process: threads of the runtime
// may still be in it when the last session is gone.
const OrtApiBase* entry(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw Error(Fault::backend, "ONNX Runtime cannot be loaded (" +
                                    first_line(reason == nullptr ? path : reason) +
                                    "); install it, or name its library");
  }
  using Entry = const OrtApiBase*(ORT_API_CALL*)();
  const auto get = reinterpret_cast<Entry>(dlsym(library, "OrtGetApiBase"));
  if (get == nullptr) throw Error(Fault::backend, path + " is no library of ONNX Runtime");
  return get();
}

}  // namespace

DType from_onnx(ONNXTensorElementDataType type) {
  for (const auto& [dtype, onnx] : kTypes)
    if (onnx == type) return dtype;
  return DType::other;
}

ONNXTensorElementDataType to_onnx(DType dtype) {
  for (const auto& [known, onnx] : kTypes)
    if (known == dtype) return onnx;
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

OnnxRuntime::Library::Library(const std::string& path) : base(entry(path)) {
  api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    throw Error(Fault::backend, std::string("ONNX Runtime is ") + base->GetVersionString() +
                                    "; allowed is 1." + std::to_string(ORT_API_VERSION) +
                                    " or later");
  }
  check(api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "flagdit", &env), "ONNX Runtime", "start");
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory), "ONNX Runtime",
        "start");
}

OnnxRuntime::Library::~Library() {
  if (api == nullptr) return;
  if (memory != nullptr) api->ReleaseMemoryInfo(memory);
  if (env != nullptr) api->ReleaseEnv(env);
}

void OnnxRuntime::Library::check(OrtStatus* status, const std::string& name,
                                 const char* what) const {
  if (status == nullptr) return;
  const std::string reason = first_line(api->GetErrorMessage(status));
  api->ReleaseStatus(status);
  for (const char* sign : {"Failed to allocate memory", "bad_alloc", "bad allocation"})
    if (reason.find(sign) != std::string::npos)
      throw Error(Fault::backend, name + ": not enough memory to " + what + " it (" + reason + ")");
  throw Error(Fault::bundle, name + ": ONNX Runtime cannot " + what + " it (" + reason + ")");
}

OnnxRuntime::OnnxRuntime(const std::string& library)
    : library_(std::make_shared<const Library>(library)) {}

OnnxRuntime::~OnnxRuntime() = default;

std::string OnnxRuntime::version() const { return library_->base->GetVersionString(); }

bool OnnxRuntime::has_cuda() const {
  Dl_info about{};
  if (dladdr(reinterpret_cast<const void*>(library_->base->GetApi), &about) == 0) return false;
  const std::string path = about.dli_fname;
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  return access((folder + "libonnxruntime_providers_cuda.so").c_str(), R_OK) == 0;
}

std::shared_ptr<Session> OnnxRuntime::open(const GraphBytes& graph,
                                           const OnnxOptions& options) const {
  return open_session(library_, graph, options);
}

}  // namespace flagdit
