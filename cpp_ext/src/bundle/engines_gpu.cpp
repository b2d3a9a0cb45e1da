// Which device a run uses, and which engine on a GPU.
#include <algorithm>

#include "../printable.h"
#include "flagdit/engines.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

const std::vector<std::string> kHalves = {"float16", "bfloat16", "float32"};  // fastest first

// What a backend's engines are called in a manifest.
std::string target_of(const std::string& backend) {
  return backend == "onnxruntime" ? "onnxruntime-cuda" : backend;
}

// As NVIDIA calls it; none of another backend.
std::string tensorrt_of(const std::string& backend) {
  if (backend == "tensorrt-rtx") return "TensorRT-RTX";
  return backend == "tensorrt" ? "TensorRT" : "";
}

// Why no run can use a GPU here; empty if one can.
std::string why_none(const std::string& backend, const Gpu& gpu, bool provider) {
  const std::string tensorrt = tensorrt_of(backend);
  if (!gpu.kernels)
    return (tensorrt.empty() ? "this build of flagdit has no CUDA kernels"
                             : tensorrt +
                                   " runs on an NVIDIA GPU, in a build of flagdit with CUDA "
                                   "kernels, which this one has not") +
           "; build it where nvcc is, in its sources: CMAKE_ARGS=-DFLAGDIT_CUDA=ON pip install .";
  if (gpu.name.empty())
    return (tensorrt.empty() ? "" : tensorrt + " runs on an NVIDIA GPU: ") + "CUDA finds no GPU (" +
           gpu.reason + ")";
  if (backend == "onnxruntime" && !provider)
    return "this ONNX Runtime has no CUDA provider; next: pip uninstall -y onnxruntime && pip "
           "install 'onnxruntime-gpu[cuda,cudnn]>=1.31'";
  return "";
}

bool fits(const EngineSpec& engine, const Gpu& gpu) {
  const auto& all = engine.architectures;
  return all.empty() || std::find(all.begin(), all.end(), gpu.architecture) != all.end();
}

std::string precisions_of(const std::vector<const EngineSpec*>& engines) {
  std::string out;
  for (const EngineSpec* engine : engines) out += (out.empty() ? "" : ", ") + engine->precision;
  return out;
}

}  // namespace

Device choose_device(const std::string& device, const std::string& backend, const Gpu& gpu,
                     bool provider) {
  const std::string tensorrt = tensorrt_of(backend);
  if (backend != "onnxruntime" && tensorrt.empty())
    throw Error(Fault::backend, "backend " + in_quotes(backend) +
                                    " is not one of onnxruntime, tensorrt, tensorrt-rtx "
                                    "(docs/tensorrt.md)");
  if (device == "cpu" && !tensorrt.empty())
    throw Error(Fault::backend, tensorrt + " runs on GPUs only; use --device cuda");
  if (device == "cpu") return Device::cpu;
  if (device != "cuda" && device != "auto")
    throw Error(Fault::backend, "device " + in_quotes(device) + " is not one of auto, cpu, cuda");
  const std::string reason = why_none(backend, gpu, provider);
  if (reason.empty()) return Device::cuda;
  if (device == "auto" && backend == "onnxruntime") return Device::cpu;
  throw Error(Fault::backend, reason + (device == "cuda" ? ", or use --device cpu" : ""));
}

const EngineSpec* choose_on_gpu(const Manifest& manifest, const std::string& backend,
                                const std::optional<std::string>& precision, const Gpu& gpu) {
  const std::string target = target_of(backend), name = printable(manifest.model.name);
  std::vector<const EngineSpec*> there, fitting;
  for (const EngineSpec& engine : manifest.engines)
    if (engine.target == target && engine.graph == "denoise") there.push_back(&engine);
  for (const EngineSpec* engine : there)
    if (fits(*engine, gpu)) fitting.push_back(engine);
  const bool own = backend == "onnxruntime";  // runs the model's own graph, too
  for (const std::string& wanted : precision ? std::vector<std::string>{*precision} : kHalves) {
    for (const EngineSpec* engine : fitting)
      if (engine->precision == wanted) return engine;
    if (own && wanted == "float32") return nullptr;
  }
  if (!precision && !fitting.empty()) return fitting.front();
  const bool ahead = target == "tensorrt-rtx";  // built for a GPU that is said
  const std::string next = "; make one with: flagdit build MODEL -o BUNDLE --target " + target +
                           (ahead ? " --sm " + std::to_string(gpu.architecture) : "") +
                           (precision ? " --precision " + *precision : "");
  if (there.empty())
    throw Error(Fault::backend, "the bundle of " + name + " has no engine for " + target + next);
  if (fitting.empty())
    throw Error(Fault::backend, "the engines for " + target + " of the bundle of " + name +
                                    " are for other GPUs than this " + gpu.name + " (compute " +
                                    "capability " + std::to_string(gpu.architecture / 10) + "." +
                                    std::to_string(gpu.architecture % 10) + ")" + next);
  throw Error(Fault::backend, "the bundle of " + name + " has no " + printable(*precision) +
                                  " engine for " + target + "; there are " +
                                  precisions_of(fitting) + (own ? ", float32" : "") + next);
}

}  // namespace flagdit
