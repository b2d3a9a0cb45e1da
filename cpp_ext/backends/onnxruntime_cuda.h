// What a graph on a GPU needs of ONNX Runtime besides what one on the CPU does.
#pragma once

#include "onnxruntime_library.h"

namespace flagdit {

// Lets a session compute on the GPU, on this stream. all: refuse a graph of which a part would run
// on the CPU. Throws Error(backend) if the library has no CUDA provider, or it cannot start.
void use_cuda(const OnnxRuntime::Library& library, OrtSessionOptions* options,
              const std::string& precision, Stream stream, bool all);
OnnxHandle<OrtMemoryInfo> cuda_memory(const OnnxRuntime::Library& library);
// Of runs that do not wait for the GPU.
OnnxHandle<OrtRunOptions> cuda_run(const OnnxRuntime::Library& library);

}  // namespace flagdit
