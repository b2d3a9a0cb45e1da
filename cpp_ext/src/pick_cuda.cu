#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cuda_check.h"
#include "pick_kernel.h"

namespace flagdit {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 65535;
constexpr int64_t kTableBlocks = 256;  // that share one table, and stride over it

template <typename Vector>
__device__ void copy_vectors(const std::byte* from, std::byte* to, int64_t bytes) {
  const int64_t vectors = bytes / static_cast<int64_t>(sizeof(Vector));
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t v = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; v < vectors;
       v += stride)
    reinterpret_cast<Vector*>(to)[v] = reinterpret_cast<const Vector*>(from)[v];
}

__global__ void __launch_bounds__(kThreads) copy_entries(PickKernel k) {
  const int64_t entry = current(k.entry);
  for (int64_t n = blockIdx.y; n < k.count; n += gridDim.y) {
    const PickTable table = k.tables[n];
    const auto [from, to] = way_of(table, entry);
    const auto bits = reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to) |
                      static_cast<uintptr_t>(table.bytes);
    if (bits % 16 == 0) {
      copy_vectors<uint4>(from, to, table.bytes);
    } else if (bits % 4 == 0) {
      copy_vectors<uint32_t>(from, to, table.bytes);
    } else {
      copy_vectors<uint8_t>(from, to, table.bytes);
    }
  }
}

unsigned blocks(int64_t wanted, int64_t most) {
  return static_cast<unsigned>(std::clamp<int64_t>(wanted, 1, most));
}

}  // namespace

void pick_cuda(const PickKernel& kernel, int64_t most_bytes, Stream stream) {
  if (most_bytes == 0) return;
  const dim3 grid(blocks((most_bytes / 16 + kThreads - 1) / kThreads, kTableBlocks),
                  blocks(kernel.count, kMostBlocks));
  copy_entries<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  check_cuda(cudaGetLastError(), "Picks: launch");
}

}  // namespace flagdit
