#pragma once

#include <cuda_runtime_api.h>

namespace flagdit {

// Throws std::runtime_error with the operation and CUDA's own words.
void check_cuda(cudaError_t status, const char* operation);

}  // namespace flagdit
