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

// Returns the velocity of one value after writing everything that follows from it.
template <typename T>
__device__ float advance_value(const AdvanceKernel& k, int64_t slot, int64_t sample, int64_t p) {
  const int64_t at = (slot * k.samples + sample) * k.values + p;
  if (slot < k.active) k.velocity[at] = guide<T>(k, slot, sample, p);
  const float velocity = k.velocity[at];
  const float latent = k.latent[at] + k.dt * velocity;
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
                               int64_t pixels) {
  float sum = 0.0f;
  float squares = 0.0f;
  for (int64_t c = 0; c < k.channels; ++c) {
    const float velocity = advance_value<T>(k, slot, sample, c * pixels + pixel);
    sum += velocity;
    squares += velocity * velocity;
  }
  if (!k.deviation) return sqrtf(squares);
  const float* velocity = k.velocity + (slot * k.samples + sample) * k.values + pixel;
  const float mean = sum / static_cast<float>(k.channels);
  squares = 0.0f;
  for (int64_t c = 0; c < k.channels; ++c) {
    const float difference = velocity[c * pixels] - mean;
    squares += difference * difference;
  }
  return sqrtf(squares / static_cast<float>(k.channels - 1));
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

  float score = 0.0f;
  if (slot < k.slots) {  // no early return: every lane takes part in the shuffles
    for (int64_t pixel = lane; pixel < pixels; pixel += lanes) {
      score += advance_pixel<T>(k, slot, sample, pixel, pixels);
    }
  }
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    score += __shfl_xor_sync(0xffffffffu, score, offset);
  }
  if (slot >= k.slots || lane != 0) return;
  const bool head = slot < k.active;
  k.score[at] = score / static_cast<float>(pixels);
  k.age[at] = head ? 0 : k.age[at] + 1;
  k.drops[at] += head ? 0 : 1;
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
