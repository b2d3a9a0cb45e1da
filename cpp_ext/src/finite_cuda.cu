#include <algorithm>
#include <cstdint>

#include "cuda_check.h"
#include "finite_kernel.h"

namespace flagdit {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1024;  // that stride over the values

// An addition only where something is no number, which stays within an int32.
template <typename Bits>
__global__ void __launch_bounds__(kThreads) count_values(FiniteKernel k) {
  const auto* values = static_cast<const Bits*>(k.values);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  int32_t broken = 0;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < k.count;
       i += stride)
    broken += (values[i] & k.exponent) == k.exponent && broken < INT32_MAX ? 1 : 0;
  for (int32_t before = broken == 0 ? 0 : *k.broken; broken != 0;) {
    const int32_t seen = atomicCAS(k.broken, before, counted_up(before, broken));
    if (seen == before) break;
    before = seen;
  }
}

}  // namespace

void finite_cuda(const FiniteKernel& kernel, Stream stream) {
  if (kernel.count == 0) return;
  const auto blocks = static_cast<unsigned>(
      std::min<int64_t>((kernel.count + kThreads - 1) / kThreads, kMostBlocks));
  auto* const on = static_cast<cudaStream_t>(stream);
  if (kernel.bytes == 4) {
    count_values<uint32_t><<<blocks, kThreads, 0, on>>>(kernel);
  } else {
    count_values<uint16_t><<<blocks, kThreads, 0, on>>>(kernel);
  }
  check_cuda(cudaGetLastError(), "count_broken: launch");
}

}  // namespace flagdit
