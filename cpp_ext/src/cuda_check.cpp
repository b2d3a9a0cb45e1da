#include "cuda_check.h"

#include <stdexcept>
#include <string>

#include "flagdit/tensor.h"

namespace flagdit {

bool with_cuda() { return true; }

void check_cuda(cudaError_t status, const char* operation) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(operation) + ": " + cudaGetErrorName(status) + ", " +
                           cudaGetErrorString(status));
}

}  // namespace flagdit
