#include "advance_kernel.h"
#include "cuda_check.h"
#include "cuda_float.h"

namespace flagdit {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

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

__device__ float sum_lanes(float value, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

// The velocity that a value moves along.
__device__ float applied(const AdvanceKernel& k, int64_t at, const Course& course) {
  if (course.linear == 0.0f) return k.velocity[at];
  return course.gain * (k.velocity[at] + change_at(k, at, course));
}

// Where a token is: its slot, its sample, its place in (N, B), and whether `denoise` computed it.
struct Place {
  int64_t slot, sample, at;
  bool inside, head, known;
};

// One value: everything that follows from its velocity, which it returns. Adds what the course of a
// computed one had missed, squared, to `missed`.
template <typename T>
__device__ float advance_value(const AdvanceKernel& k, const Place& place, int64_t p,
                               const Course& expected, const Course& course, float gap, float span,
                               float* missed) {
  const int64_t i = place.at * k.values + p;
  if (place.known) {
    learn_known(k, i);
  } else if (place.head) {
    const float off = learn(k, i, expected, guide<T>(k, place.slot, place.sample, p), gap, span);
    *missed += off * off;
  }
  const float velocity = applied(k, i, course);
  float latent = k.latent[i] + k.dt * velocity;
  if (course.bend != 0.0f || course.bend_curve != 0.0f) latent += bend_at(k, i, course);
  k.latent[i] = latent;
  for (int64_t branch = 0; branch < k.branches; ++branch) {
    const int64_t row = (place.slot * k.branches + branch) * k.samples + place.sample;
    from_float(latent, static_cast<T*>(k.tokens) + row * k.values + p);
  }
  return velocity;
}

// The score of one pixel whose values, `stride` apart, have this sum and sum of squares. The second
// pass over the channels reads what this thread has just written, from L1.
__device__ float pixel_score(const AdvanceKernel& k, int64_t first, int64_t stride,
                             const Course& course, float sum, float squares) {
  if (k.metric == Metric::change) return 0.0f;
  if (k.metric == Metric::l2 || k.channels == 1) return sqrtf(squares);
  const float mean = sum / static_cast<float>(k.channels);
  squares = 0.0f;
  for (int64_t c = 0; c < k.channels; ++c) {
    const float difference = applied(k, first + c * stride, course) - mean;
    squares += difference * difference;
  }
  return sqrtf(squares / static_cast<float>(k.channels - 1));
}

// How a token would go on if it were not computed. Every lane of the warp takes part in the sums,
// also those without a token.
__device__ Course tail_course(const AdvanceKernel& k, const Place& place, int lane, int lanes) {
  if (k.time == nullptr || k.forecast == 0.0f) return {};
  const Course course = place.inside ? newton(k, place.at) : Course{};
  Products of;
  for (int64_t p = lane; course.linear != 0.0f && p < k.values; p += lanes) {
    const int64_t i = place.at * k.values + p;
    const float v = k.velocity[i], d = change_at(k, i, course);
    of.vv += v * v;
    of.vd += v * d;
    of.dd += d * d;
  }
  of = {sum_lanes(of.vv, lanes), sum_lanes(of.vd, lanes), sum_lanes(of.dd, lanes)};
  __syncwarp();  // these reads come before other lanes' writes; shuffles alone do not order memory
  return clamp(k, course, of);
}

// A group of `lanes` threads, a power of two up to a warp, has one token; a lane has every
// lanes-th pixel of it. Neighbouring lanes read neighbouring pixels.
template <typename T>
__global__ void __launch_bounds__(kThreads) advance_tokens(AdvanceKernel kernel, int lanes) {
  const AdvanceKernel k = at_entry(kernel);
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t at = k.pinned * k.samples + thread / lanes;
  const int lane = static_cast<int>(thread % lanes);
  const bool inside = at < k.slots * k.samples;
  const Place place{at / k.samples,           at % k.samples, at, inside, at < k.active * k.samples,
                    inside && is_known(k, at)};
  const int64_t pixels = k.values / k.channels;

  const Course tail = tail_course(k, place, lane, lanes);
  const Course course = place.known ? Course{} : place.head ? head_course(k) : tail;
  const float gap = place.head ? head_gap(k, at) : 0.0f;
  const float span = place.head && k.span != nullptr ? k.span[at] : 0.0f;
  float score = 0.0f, missed = 0.0f;
  if (place.inside) {  // no early return: every lane takes part in the shuffles
    for (int64_t pixel = lane; pixel < pixels; pixel += lanes) {
      float sum = 0.0f, squares = 0.0f;
      for (int64_t c = 0; c < k.channels; ++c) {
        const float velocity =
            advance_value<T>(k, place, c * pixels + pixel, tail, course, gap, span, &missed);
        sum += velocity;
        squares += velocity * velocity;
      }
      score += pixel_score(k, at * k.values + pixel, pixels, course, sum, squares);
    }
  }
  score = sum_lanes(score, lanes);
  missed = sum_lanes(missed, lanes);
  __syncwarp();  // all lanes have read the token's old times
  if (!place.inside || lane != 0) return;
  if (k.metric != Metric::change) k.score[at] = score / static_cast<float>(pixels);
  settle(k, at, place.head, gap, missed);
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
