#include <cstdint>

#include "cuda_check.h"
#include "repartition_kernel.h"

namespace flagdit {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kStripes = 16;             // blocks that share the swaps of one row of one buffer
constexpr unsigned kMostBlocks = 65535;  // of a grid's y and z

// The same for every row of a buffer: its start and its pitch have the same alignment.
__device__ int64_t alignment(const SlotBuffer& buffer) {
  const auto bits =
      reinterpret_cast<uintptr_t>(buffer.data) | static_cast<uintptr_t>(buffer.row_bytes);
  return static_cast<int64_t>(bits & (~bits + 1));
}

// The swaps of one row of one buffer. A swap has as many threads as the row has vectors, up to a
// warp and rounded up to a power of two, so that rows of a few bytes do not idle a warp. How many
// swaps there are is known only here, on the device: the grid is fixed, and strides over them.
template <typename Vector>
__device__ void exchange_row(const RepartitionKernel& k, const SlotBuffer& buffer, int64_t row) {
  const int64_t sample = row % k.samples;
  const int32_t* swaps = k.swaps + sample * k.slots * 2;
  const int64_t count = min(static_cast<int64_t>(k.counts[sample]), k.slots);
  const int64_t vectors = buffer.row_bytes / static_cast<int64_t>(sizeof(Vector));
  int lanes = 1;
  while (lanes < kWarp && lanes < vectors) lanes *= 2;
  const int thread = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  for (int64_t s = thread / lanes; s < count; s += kStripes * kThreads / lanes) {
    const int64_t i = swaps[2 * s], j = swaps[2 * s + 1];
    const bool inside = i >= 0 && i < k.slots && j >= 0 && j < k.slots && i != j;
    if (!inside) continue;
    auto* __restrict__ a =
        reinterpret_cast<Vector*>(buffer.data + (i * buffer.rows + row) * buffer.row_bytes);
    auto* __restrict__ b =
        reinterpret_cast<Vector*>(buffer.data + (j * buffer.rows + row) * buffer.row_bytes);
#pragma unroll 2  // loads of two vectors on their way at a time
    for (int64_t v = thread % lanes; v < vectors; v += lanes) {
      const Vector held = a[v];
      if (!buffer.recomputed) a[v] = b[v];
      b[v] = held;
    }
  }
}

__global__ void __launch_bounds__(kThreads) swap_rows(RepartitionKernel k) {
  for (int64_t n = blockIdx.y; n < k.count; n += gridDim.y) {
    const SlotBuffer buffer = k.buffers[n];
    const int64_t aligned = alignment(buffer);
    for (int64_t row = blockIdx.z; row < buffer.rows; row += gridDim.z) {
      if (aligned >= 16) {
        exchange_row<uint4>(k, buffer, row);
      } else if (aligned >= 4) {
        exchange_row<uint32_t>(k, buffer, row);
      } else {
        exchange_row<uint8_t>(k, buffer, row);
      }
    }
  }
}

unsigned grid_size(int64_t wanted) {
  return wanted < kMostBlocks ? static_cast<unsigned>(wanted) : kMostBlocks;
}

}  // namespace

void repartition_cuda(const RepartitionKernel& kernel, Stream stream) {
  if (kernel.count == 0) return;
  const dim3 grid(kStripes, grid_size(kernel.count), grid_size(kernel.most_rows));
  swap_rows<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  check_cuda(cudaGetLastError(), "swap: launch");
}

}  // namespace flagdit
