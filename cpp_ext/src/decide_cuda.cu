#include <cstdint>

#include "cuda_check.h"
#include "decide_rule.h"
#include "flagdit/refresh.h"

namespace flagdit {
namespace {

constexpr int kThreads = kDecideLanes;  // one block for each sample

struct Shared {
  double lanes[kDecideLanes];
  uint32_t sorted[kDecideShared];
  int32_t ages[kMaxAge + 1];
  int32_t within;  // patches that may be left out
  bool due;        // a patch must be computed now
};

// Sorts `count` integers, a power of two of them, upwards: Batcher's bitonic sort.
__device__ void sort(uint32_t* values, int64_t count) {
  for (int64_t size = 2; size <= count; size *= 2) {
    for (int64_t stride = size / 2; stride > 0; stride /= 2) {
      __syncthreads();
      for (int64_t n = threadIdx.x; n < count / 2; n += kThreads) {
        const int64_t low = n / stride * 2 * stride + n % stride, high = low + stride;
        const uint32_t a = values[low], b = values[high];
        const bool upwards = (low & size) == 0;
        if ((a > b) == upwards && a != b) {
          values[low] = b;
          values[high] = a;
        }
      }
    }
  }
  __syncthreads();
}

__device__ double sum_squares(const DecideKernel& k, int64_t sample, Shared& shared) {
  const int lane = threadIdx.x;
  shared.lanes[lane] = lane_squares(k.velocity + k.first() * k.values, k.patches(), k.samples,
                                    k.values, sample, lane);
  for (int half = kDecideLanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) shared.lanes[lane] += shared.lanes[lane + half];
  }
  __syncthreads();
  const double sum = shared.lanes[0];
  __syncthreads();  // the next sums overwrite it
  return sum;
}

// Of the sorted patches, how many of the cheapest may be left out; and the error if all are.
__device__ double left_out(const DecideKernel& k, const uint32_t* sorted, double scale,
                           Shared& shared) {
  const int64_t share = lane_share(k.patches()), first = threadIdx.x * share;
  const int64_t last = first + share < k.patches() ? first + share : k.patches();
  double own = 0.0;
  for (int64_t n = first; n < last; ++n) own += cost_of(sorted[n]);
  shared.lanes[threadIdx.x] = own;
  if (threadIdx.x == 0) shared.within = 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    double before = 0.0;
    for (int lane = 0; lane < kDecideLanes; ++lane) {
      const double sum = shared.lanes[lane];
      shared.lanes[lane] = before;
      before += sum;
    }
  }
  __syncthreads();
  const double before = shared.lanes[threadIdx.x];
  __syncthreads();  // the last lane overwrites the first
  int32_t within = 0;
  own = 0.0;
  for (int64_t n = first; n < last; ++n) {
    own += cost_of(sorted[n]);
    const double error = (before + own) / scale;
    within += error <= k.error_budget ? 1 : 0;
    if (n == k.patches() - 1) shared.lanes[0] = error;
  }
  if (within > 0) atomicAdd(&shared.within, within);
  __syncthreads();
  return shared.lanes[0];
}

// As `forced` of adapt.h, of one sample.
__device__ bool is_due(const DecideKernel& k, int64_t sample, Shared& shared) {
  if (k.max_age < 0) return false;
  for (int64_t age = threadIdx.x; age <= k.max_age; age += kThreads) shared.ages[age] = 0;
  __syncthreads();
  for (int64_t slot = k.pinned + threadIdx.x; slot < k.slots; slot += kThreads) {
    const int64_t age = k.age[slot * k.samples + sample];
    if (age >= 0) atomicAdd(&shared.ages[age < k.max_age ? age : k.max_age], 1);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    const int32_t* future = k.future + current(k.entry) * (k.max_age + 1);
    int64_t due = 0;
    bool any = false;
    for (int64_t h = 1; h <= k.max_age + 1; ++h) {
      due += shared.ages[k.max_age + 1 - h];
      any = any || due > future[h - 1];
    }
    shared.due = any;
  }
  __syncthreads();
  return shared.due;
}

__global__ void __launch_bounds__(kThreads) decide_sample(DecideKernel k, int64_t padded) {
  __shared__ Shared shared;
  const int64_t sample = blockIdx.x;
  uint32_t* sorted = padded <= kDecideShared
                         ? shared.sorted
                         : reinterpret_cast<uint32_t*>(k.scratch + 2 * k.samples) + sample * padded;
  for (int64_t n = threadIdx.x; n < padded; n += kThreads)
    sorted[n] =
        n < k.patches() ? cost_bits(k.score[k.first() + n * k.samples + sample]) : UINT32_MAX;
  sort(sorted, padded);
  const double scale = error_scale(sum_squares(k, sample, shared), k.patches(), k.values);
  const double all = left_out(k, sorted, scale, shared);
  const bool due = is_due(k, sample, shared);
  if (threadIdx.x != 0) return;
  k.scratch[2 * sample] = static_cast<int32_t>(k.patches() - shared.within);
  k.scratch[2 * sample + 1] = all < k.gate && !due;
}

// The worst sample counts.
__global__ void decide_all(DecideKernel k) {
  int64_t needed = 0;
  bool left_out = true;
  for (int64_t sample = 0; sample < k.samples; ++sample) {
    needed = k.scratch[2 * sample] > needed ? k.scratch[2 * sample] : needed;
    left_out = left_out && k.scratch[2 * sample + 1] != 0;
  }
  *k.active = head_of(k, left_out, needed);
}

}  // namespace

void decide_cuda(const DecideKernel& kernel, Stream stream) {
  int64_t padded = 1;
  while (padded < kernel.patches()) padded *= 2;
  auto* const on = static_cast<cudaStream_t>(stream);
  const auto blocks = static_cast<unsigned>(kernel.samples);
  decide_sample<<<blocks, kThreads, 0, on>>>(kernel, padded);
  check_cuda(cudaGetLastError(), "decide_active: launch");
  decide_all<<<1, 1, 0, on>>>(kernel);
  check_cuda(cudaGetLastError(), "decide_active: launch");
}

}  // namespace flagdit
