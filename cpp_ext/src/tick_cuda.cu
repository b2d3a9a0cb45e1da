#include "cuda_check.h"
#include "tick_kernel.h"

namespace flagdit {
namespace {

__global__ void increment(int32_t* entry) { step_on(entry); }

}  // namespace

void tick_cuda(int32_t* entry, Stream stream) {
  increment<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>(entry);
  check_cuda(cudaGetLastError(), "tick: launch");
}

}  // namespace flagdit
