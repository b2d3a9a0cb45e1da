#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "advance_kernel.h"
#include "cuda_check.h"

namespace flagdit {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

__device__ float to_float(float x) { return x; }
__device__ float to_float(__half x) { return __half2float(x); }
__device__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ T from_float(float x);
template <>
__device__ float from_float(float x) {
  return x;
}
template <>
__device__ __half from_float(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __nv_bfloat16 from_float(float x) {
  return __float2bfloat16_rn(x);
}

// See advance_cpu.cpp for why this form.
template <typename T>
__device__ float guide(const AdvanceKernel& k, int64_t slot, int64_t sample, int64_t p) {
  const T* cond =
      static_cast<const T*>(k.output) + (slot * k.branches * k.samples + sample) * k.values + p;
  const float c = to_float(*cond);
  if (k.branches == 1) return c;
  const float u = to_float(cond[k.samples * k.values]);
  return c + (k.guidance[p] - 1.0f) * (c - u);
}

// The velocity that a value moves along.
__device__ float applied(const AdvanceKernel& k, int64_t at, const Course& course) {
  if (course.reach == 0.0f) return k.velocity[at];
  return k.velocity[at] + course.reach * k.slope[at];
}

// Returns the velocity of one value after writing everything that follows from it.
template <typename T>
__device__ float advance_value(const AdvanceKernel& k, int64_t slot, int64_t sample, int64_t p,
                               const Course& course) {
  const int64_t at = (slot * k.samples + sample) * k.values + p;
  if (slot < k.active) {
    const float guided = guide<T>(k, slot, sample, p);
    if (course.gap > 0.0f) k.slope[at] = (guided - k.velocity[at]) / course.gap;
    k.velocity[at] = guided;
  }
  const float velocity = applied(k, at, course);
  float latent = k.latent[at] + k.dt * velocity;
  if (course.bend != 0.0f) latent += course.bend * k.slope[at];
  k.latent[at] = latent;
  for (int64_t branch = 0; branch < k.branches; ++branch) {
    const int64_t row = (slot * k.branches + branch) * k.samples + sample;
    static_cast<T*>(k.tokens)[row * k.values + p] = from_float<T>(latent);
  }
  return velocity;
}

// All channels of one pixel: its update, and its score. The second pass over the channels reads
// what this thread has just written, from L1.
template <typename T>
__device__ float advance_pixel(const AdvanceKernel& k, int64_t slot, int64_t sample, int64_t pixel,
                               int64_t pixels, const Course& course) {
  float sum = 0.0f;
  float squares = 0.0f;
  for (int64_t c = 0; c < k.channels; ++c) {
    const float velocity = advance_value<T>(k, slot, sample, c * pixels + pixel, course);
    sum += velocity;
    squares += velocity * velocity;
  }
  if (!k.deviation) return sqrtf(squares);
  const int64_t at = (slot * k.samples + sample) * k.values + pixel;
  const float mean = sum / static_cast<float>(k.channels);
  squares = 0.0f;
  for (int64_t c = 0; c < k.channels; ++c) {
    const float difference = applied(k, at + c * pixels, course) - mean;
    squares += difference * difference;
  }
  return sqrtf(squares / static_cast<float>(k.channels - 1));
}

__device__ float sum_lanes(float value, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

// Every lane of the warp takes part in the sums, also those without a token or with one of the
// head.
__device__ Course plot(const AdvanceKernel& k, int64_t at, int lane, int lanes) {
  const bool inside = at < k.slots * k.samples, head = at < k.active * k.samples;
  if (k.forecast == 0.0f) return head ? head_course(k, at) : Course{};
  float velocity = 0.0f, slope = 0.0f;
  for (int64_t p = lane; inside && !head && p < k.values; p += lanes) {
    const float v = k.velocity[at * k.values + p], s = k.slope[at * k.values + p];
    velocity += v * v;
    slope += s * s;
  }
  velocity = sum_lanes(velocity, lanes);
  slope = sum_lanes(slope, lanes);
  if (head) return head_course(k, at);
  return inside ? tail_course(k, at, velocity, slope) : Course{};
}

// A group of `lanes` threads, a power of two up to a warp, has one token; a lane has every
// lanes-th pixel of it. Neighbouring lanes read neighbouring pixels.
template <typename T>
__global__ void __launch_bounds__(kThreads) advance_tokens(AdvanceKernel k, int lanes) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t at = k.pinned * k.samples + thread / lanes;
  const int lane = static_cast<int>(thread % lanes);
  const int64_t slot = at / k.samples, sample = at % k.samples;
  const int64_t pixels = k.values / k.channels;

  const Course course = plot(k, at, lane, lanes);
  float score = 0.0f;
  if (slot < k.slots) {  // no early return: every lane takes part in the shuffles
    for (int64_t pixel = lane; pixel < pixels; pixel += lanes) {
      score += advance_pixel<T>(k, slot, sample, pixel, pixels, course);
    }
  }
  score = sum_lanes(score, lanes);
  if (slot >= k.slots || lane != 0) return;
  const bool head = slot < k.active;
  k.score[at] = score / static_cast<float>(pixels);
  if (head && k.time != nullptr) k.time[at] = k.t;  // every lane has read it before the sum
  k.age[at] = head ? 0 : k.age[at] + (k.last ? 1 : 0);
  k.drops[at] += !head && k.last ? 1 : 0;
}

int lanes_for(int64_t pixels) {
  int lanes = 1;
  while (lanes < kWarp && lanes < pixels) lanes *= 2;
  return lanes;
}

template <typename T>
void launch(const AdvanceKernel& kernel, Stream stream) {
  const int lanes = lanes_for(kernel.values / kernel.channels);
  const int64_t threads = (kernel.slots - kernel.pinned) * kernel.samples * lanes;
  if (threads == 0) return;
  const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  advance_tokens<T><<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel, lanes);
  check_cuda(cudaGetLastError(), "advance: launch");
}

}  // namespace

void advance_cuda(const AdvanceKernel& kernel, DType dtype, Stream stream) {
  switch (dtype) {
    case DType::f16:
      return launch<__half>(kernel, stream);
    case DType::bf16:
      return launch<__nv_bfloat16>(kernel, stream);
    default:
      return launch<float>(kernel, stream);
  }
}

}  // namespace flagdit
