#include "onnxruntime_cuda.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace flagdit {
namespace {

constexpr int kDevice = 0;
// Before 1.31 a call copies from memory of the host that a captured graph would read when it is
// gone.
constexpr int kFirst = 31;
constexpr const char* kNext =
    "; next: pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]>=1.31', or "
    "use "
    "--device cpu";

void check(const OnnxRuntime::Library& library, OrtStatus* status, const std::string& what) {
  if (status == nullptr) return;
  std::string reason = library.api->GetErrorMessage(status);
  library.api->ReleaseStatus(status);
  reason = reason.substr(0, reason.find('\n'));
  throw Error(Fault::backend, std::string("ONNX Runtime ") + library.base->GetVersionString() +
                                  " cannot " + what + " (" + reason + ")" + kNext);
}

void check_version(const OnnxRuntime::Library& library) {
  const std::string version = library.base->GetVersionString();
  const size_t dot = version.find('.');
  if (version.substr(0, dot) != "1" || std::atoi(version.c_str() + dot + 1) >= kFirst) return;
  throw Error(Fault::backend, "ONNX Runtime " + version + " cannot be captured in a CUDA graph; " +
                                  "allowed is 1." + std::to_string(kFirst) + " or later" + kNext);
}

}  // namespace

void use_cuda(const OnnxRuntime::Library& library, OrtSessionOptions* options,
              const std::string& precision, Stream stream, bool all) {
  check_version(library);
  const OrtApi& api = *library.api;
  OnnxHandle<OrtCUDAProviderOptionsV2> cuda(api.ReleaseCUDAProviderOptions);
  check(library, api.CreateCUDAProviderOptions(cuda.out()), "use a GPU");
  const std::string own = std::to_string(reinterpret_cast<uintptr_t>(stream));
  const std::array<std::array<const char*, 2>, 7> said{{
      {"device_id", "0"},
      {"has_user_compute_stream", "1"},
      {"user_compute_stream", own.c_str()},
      {"enable_cudnn", "0"},
      {"arena_extend_strategy", "kSameAsRequested"},
      // What says that it computes in float32 does: matrices of TF32 have 10 bits.
      {"use_tf32", precision == "float32" ? "0" : "1"},
      // Its own graphs are not used (cuda_run), but where they may be it refuses what has to
      // compute on the CPU.
      {"enable_cuda_graph", all ? "1" : "0"},
  }};
  std::array<const char*, said.size()> keys{}, values{};
  for (size_t i = 0; i < said.size(); ++i) keys[i] = said[i][0], values[i] = said[i][1];
  check(library, api.UpdateCUDAProviderOptions(cuda.get(), keys.data(), values.data(), keys.size()),
        "set up its CUDA provider");
  check(library, api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda.get()),
        "start its CUDA provider");
}

OnnxHandle<OrtMemoryInfo> cuda_memory(const OnnxRuntime::Library& library) {
  OnnxHandle<OrtMemoryInfo> out(library.api->ReleaseMemoryInfo);
  check(library,
        library.api->CreateMemoryInfo("Cuda", OrtDeviceAllocator, kDevice, OrtMemTypeDefault,
                                      out.out()),
        "describe the GPU's memory");
  return out;
}

OnnxHandle<OrtRunOptions> cuda_run(const OnnxRuntime::Library& library) {
  OnnxHandle<OrtRunOptions> out(library.api->ReleaseRunOptions);
  check(library, library.api->CreateRunOptions(out.out()), "set up a run");
  check(library,
        library.api->AddRunConfigEntry(out.get(), "disable_synchronize_execution_providers", "1"),
        "set up a run");
  check(library, library.api->AddRunConfigEntry(out.get(), "gpu_graph_id", "-1"), "set up a run");
  return out;
}

}  // namespace flagdit
