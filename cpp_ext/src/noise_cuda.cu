#include "cuda_check.h"
#include "noise_kernel.h"

namespace flagdit {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) draw(NoiseKernel k) {
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (place < k.values) k.out[place] = normal_value(k.seed, place);
}

}  // namespace

// In double although that is slow on many GPUs: it is
// done once a picture, and gives what the CPU gives.
void noise_cuda(const NoiseKernel& kernel, Stream stream) {
  if (kernel.values == 0) return;
  const auto blocks = static_cast<unsigned>((kernel.values + kThreads - 1) / kThreads);
  draw<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  check_cuda(cudaGetLastError(), "normal_noise: launch");
}

}  // namespace flagdit
