#include "cuda_check.h"
#include "dilate_kernel.h"

namespace flagdit {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) lay_out_tokens(DilateKernel k) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at < k.slots * k.samples) lay_out(k, at / k.samples, at % k.samples);
}

__global__ void __launch_bounds__(kThreads) spread_tokens(DilateKernel k) {
  const int64_t at =
      k.pinned * k.samples + static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at < k.slots * k.samples) spread(k, at / k.samples, at % k.samples);
}

}  // namespace

// Two launches: every score must lie in the grid before the first is read from it.
void dilate_cuda(const DilateKernel& kernel, Stream stream) {
  const int64_t threads = kernel.slots * kernel.samples;
  if (threads == 0 || kernel.pinned == kernel.slots) return;
  const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  lay_out_tokens<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  check_cuda(cudaGetLastError(), "dilate: launch");
  spread_tokens<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  check_cuda(cudaGetLastError(), "dilate: launch");
}

}  // namespace flagdit
