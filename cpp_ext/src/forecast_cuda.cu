#include <algorithm>
#include <cstdint>

#include "cuda_check.h"
#include "cuda_float.h"
#include "forecast_kernel.h"

namespace flagdit {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int64_t kMostBlocks = 65535;
constexpr int64_t kRowBlocks = 1024;  // that share the rows of one cache, and stride over them

// Values that one thread loads and stores at once.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T v[V];
};

// What goes with a token: its last values, and how they change.
template <typename T, int V>
struct Load {
  Pack<T, V> latest;
  Pack<__nv_bfloat16, V> slope;
  float ahead;
};

template <typename T, int V>
class Rows {
 public:
  __device__ Rows(const ForecastKernel& kernel, const ForecastCache& cache)
      : k_(kernel), cache_(cache) {}

  __device__ void stay(int64_t slot, int64_t row, int64_t v) const {
    const Stay what = stay_at(k_.step, slot);
    if (what == Stay::nothing) return;
    if (what == Stay::copy) {
      anchor(slot, row, v) = values(slot, row, v);
    } else if (what == Stay::learn) {
      put(take(slot, row, v), slot, row, v);
    } else {
      const Load<T, V> load = take(slot, row, v);
      values(slot, row, v) = moved(load);
    }
  }

  __device__ void exchange(int64_t i, int64_t j, int64_t row, int64_t v) const {
    const Load<T, V> from_i = take(i, row, v), from_j = take(j, row, v);
    put(from_i, j, row, v);
    put(from_j, i, row, v);
  }

 private:
  template <typename U>
  __device__ Pack<U, V>& at(void* data, int64_t slot, int64_t row, int64_t v) const {
    const int64_t start = (slot * k_.layout.rows + row) * k_.layout.width;
    return reinterpret_cast<Pack<U, V>*>(static_cast<U*>(data) + start)[v];
  }
  __device__ Pack<T, V>& values(int64_t slot, int64_t row, int64_t v) const {
    return at<T>(cache_.values, slot, row, v);
  }
  __device__ Pack<T, V>& anchor(int64_t slot, int64_t row, int64_t v) const {
    return at<T>(cache_.anchor, slot, row, v);
  }
  __device__ Pack<__nv_bfloat16, V>& slope(int64_t slot, int64_t row, int64_t v) const {
    return at<__nv_bfloat16>(cache_.slope, slot, row, v);
  }

  __device__ Load<T, V> take(int64_t slot, int64_t row, int64_t v) const {
    const int64_t token = slot * k_.layout.samples + row % k_.layout.samples;
    Load<T, V> load;
    load.ahead = k_.ahead[token];
    if (slot >= k_.step.fresh) {
      load.latest = anchor(slot, row, v);
      load.slope = slope(slot, row, v);
      return load;
    }
    const float gain = k_.gain[token];
    const Pack<T, V> before = anchor(slot, row, v);
    load.latest = values(slot, row, v);
#pragma unroll
    for (int n = 0; n < V; ++n) {
      const float change = (to_float(load.latest.v[n]) - to_float(before.v[n])) * gain;
      from_float(gain == 0.0f ? 0.0f : change, &load.slope.v[n]);
    }
    return load;
  }

  __device__ Pack<T, V> moved(const Load<T, V>& load) const {
    Pack<T, V> out;
#pragma unroll
    for (int n = 0; n < V; ++n)
      from_float(to_float(load.latest.v[n]) + load.ahead * to_float(load.slope.v[n]), &out.v[n]);
    return out;
  }

  __device__ void put(const Load<T, V>& load, int64_t slot, int64_t row, int64_t v) const {
    anchor(slot, row, v) = load.latest;
    if (slot < k_.step.active) return;
    slope(slot, row, v) = load.slope;
    if (k_.step.tail) values(slot, row, v) = moved(load);
  }

  const ForecastKernel& k_;
  const ForecastCache& cache_;
};

// A row of a slot has as many threads as it has packs, up to a warp and rounded up to a power of
// two; the lower slot of a pair does both.
template <typename T, int V>
__device__ void move_cache(const ForecastKernel& k, const ForecastCache& cache) {
  const Rows<T, V> rows(k, cache);
  const int64_t packs = k.layout.width / V, total = k.layout.slots * k.layout.rows;
  int lanes = 1;
  while (lanes < kWarp && lanes < packs) lanes *= 2;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads / lanes;
  for (int64_t at = thread / lanes; at < total; at += stride) {
    const int64_t slot = at / k.layout.rows, row = at % k.layout.rows;
    const int64_t to = k.partner[slot * k.layout.samples + row % k.layout.samples];
    if (to < slot) continue;
    for (int64_t v = thread % lanes; v < packs; v += lanes) {
      if (to == slot) {
        rows.stay(slot, row, v);
      } else {
        rows.exchange(slot, to, row, v);
      }
    }
  }
}

__device__ bool aligned(const ForecastCache& cache, int64_t width, int pack, int bytes) {
  const auto bits =
      reinterpret_cast<uintptr_t>(cache.values) | reinterpret_cast<uintptr_t>(cache.anchor);
  const auto slopes = reinterpret_cast<uintptr_t>(cache.slope);
  return width % pack == 0 && bits % (pack * bytes) == 0 && slopes % (pack * 2) == 0;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) move_rows(ForecastKernel k) {
  k.step = numbers_of(k);
  constexpr int kPack = 16 / sizeof(T);
  for (int64_t n = blockIdx.y; n < k.count; n += gridDim.y) {
    const ForecastCache cache = k.caches[n];
    if (aligned(cache, k.layout.width, kPack, sizeof(T))) {
      move_cache<T, kPack>(k, cache);
    } else {
      move_cache<T, 1>(k, cache);
    }
  }
}

__global__ void mark_tokens(ForecastKernel k) {
  k.step = numbers_of(k);
  const int64_t total = k.layout.slots * k.layout.samples;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; at < total;
       at += stride)
    mark_token(k, at);
}

// How many pairs there are is known only here, on the device: the grid is fixed.
__global__ void pair_slots(ForecastKernel k) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t sample = blockIdx.y; sample < k.layout.samples; sample += gridDim.y) {
    const int32_t* swaps = k.swaps + sample * k.layout.slots * 2;
    const int64_t count = min(static_cast<int64_t>(k.counts[sample]), k.layout.slots);
    for (int64_t s = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; s < count;
         s += stride)
      pair_tokens(k, sample, swaps[2 * s], swaps[2 * s + 1]);
  }
}

unsigned blocks(int64_t wanted, int64_t most) {
  return static_cast<unsigned>(std::clamp<int64_t>(wanted, 1, most));
}

// Enough blocks for all rows at a warp each.
dim3 row_grid(const ForecastKernel& k) {
  const int64_t rows = k.layout.slots * k.layout.rows;
  return dim3(blocks((rows * kWarp + kThreads - 1) / kThreads, kRowBlocks),
              blocks(k.count, kMostBlocks));
}

}  // namespace

void forecast_cuda(const ForecastKernel& k, Stream stream) {
  auto* const on = static_cast<cudaStream_t>(stream);
  const int64_t tokens = k.layout.slots * k.layout.samples;
  mark_tokens<<<blocks((tokens + kThreads - 1) / kThreads, kMostBlocks), kThreads, 0, on>>>(k);
  if (k.swaps != nullptr) {
    const dim3 grid(blocks((k.layout.slots / 2 + kThreads - 1) / kThreads, kMostBlocks),
                    blocks(k.layout.samples, kMostBlocks));
    pair_slots<<<grid, kThreads, 0, on>>>(k);
  }
  if (k.layout.dtype == DType::f32) {
    move_rows<float><<<row_grid(k), kThreads, 0, on>>>(k);
  } else if (k.layout.dtype == DType::f16) {
    move_rows<__half><<<row_grid(k), kThreads, 0, on>>>(k);
  } else {
    move_rows<__nv_bfloat16><<<row_grid(k), kThreads, 0, on>>>(k);
  }
  check_cuda(cudaGetLastError(), "move: launch");
}

}  // namespace flagdit
