#include <algorithm>
#include <cmath>

#include "advance_kernel.h"

namespace flagdit {
namespace {

// cond + (g - 1) * (cond - uncond) rather than uncond + g * (cond - uncond): exact at g == 1, the
// scale of channels that are not guided.
void guide(const AdvanceKernel& k, int64_t slot, int64_t sample, float* velocity) {
  const auto* output = static_cast<const float*>(k.output);
  const float* cond = output + (slot * k.branches * k.samples + sample) * k.values;
  if (k.branches == 1) {
    std::copy_n(cond, k.values, velocity);
    return;
  }
  const float* uncond = cond + k.samples * k.values;
  for (int64_t p = 0; p < k.values; ++p) {
    velocity[p] = cond[p] + (k.guidance[p] - 1.0f) * (cond[p] - uncond[p]);
  }
}

// The slope holds the old velocity until the new one is there.
void refresh(const AdvanceKernel& k, int64_t slot, int64_t sample, const Course& course) {
  const int64_t at = slot * k.samples + sample;
  float* velocity = k.velocity + at * k.values;
  if (!(course.gap > 0.0f)) return guide(k, slot, sample, velocity);
  float* slope = k.slope + at * k.values;
  std::copy_n(velocity, k.values, slope);
  guide(k, slot, sample, velocity);
  for (int64_t p = 0; p < k.values; ++p) slope[p] = (velocity[p] - slope[p]) / course.gap;
}

// Four sums at a time: one alone would wait for every addition.
float square(const float* vector, int64_t values) {
  float sums[4] = {};
  int64_t p = 0;
  for (; p + 4 <= values; p += 4) {
    for (int i = 0; i < 4; ++i) sums[i] += vector[p + i] * vector[p + i];
  }
  for (; p < values; ++p) sums[0] += vector[p] * vector[p];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

Course forecast(const AdvanceKernel& k, int64_t at) {
  if (k.slope == nullptr || k.forecast == 0.0f) return {};
  return tail_course(k, at, square(k.velocity + at * k.values, k.values),
                     square(k.slope + at * k.values, k.values));
}

// The velocity that a token moves along. An extrapolated one is written where its tokens will be.
const float* applied(const AdvanceKernel& k, int64_t slot, int64_t sample, const Course& course) {
  const int64_t at = (slot * k.samples + sample) * k.values;
  const float* velocity = k.velocity + at;
  if (course.reach == 0.0f) return velocity;
  float* scratch =
      static_cast<float*>(k.tokens) + (slot * k.branches * k.samples + sample) * k.values;
  for (int64_t p = 0; p < k.values; ++p) {
    scratch[p] = velocity[p] + course.reach * k.slope[at + p];
  }
  return scratch;
}

void move(const AdvanceKernel& k, int64_t slot, int64_t sample, const float* velocity, float bend) {
  const int64_t at = (slot * k.samples + sample) * k.values;
  float* latent = k.latent + at;
  for (int64_t p = 0; p < k.values; ++p) latent[p] += k.dt * velocity[p];
  for (int64_t p = 0; bend != 0.0f && p < k.values; ++p) latent[p] += bend * k.slope[at + p];
  for (int64_t branch = 0; branch < k.branches; ++branch) {
    const int64_t row = (slot * k.branches + branch) * k.samples + sample;
    std::copy_n(latent, k.values, static_cast<float*>(k.tokens) + row * k.values);
  }
}

float pixel_score(const float* velocity, int64_t channels, int64_t pixels, bool deviation) {
  float mean = 0.0f;
  if (deviation) {
    for (int64_t c = 0; c < channels; ++c) mean += velocity[c * pixels];
    mean /= static_cast<float>(channels);
  }
  float squares = 0.0f;
  for (int64_t c = 0; c < channels; ++c) {
    const float difference = velocity[c * pixels] - mean;
    squares += difference * difference;
  }
  return std::sqrt(deviation ? squares / static_cast<float>(channels - 1) : squares);
}

float token_score(const AdvanceKernel& k, const float* velocity) {
  const int64_t pixels = k.values / k.channels;
  float sum = 0.0f;
  for (int64_t q = 0; q < pixels; ++q) {
    sum += pixel_score(velocity + q, k.channels, pixels, k.deviation);
  }
  return sum / static_cast<float>(pixels);
}

void count(const AdvanceKernel& k, int64_t at, bool head) {
  if (head && k.time != nullptr) k.time[at] = k.t;
  k.age[at] = head ? 0 : k.age[at] + (k.last ? 1 : 0);
  k.drops[at] += !head && k.last ? 1 : 0;
}

}  // namespace

void advance_cpu(const AdvanceKernel& k) {
  for (int64_t slot = k.pinned; slot < k.slots; ++slot) {
    const bool head = slot < k.active;
    for (int64_t sample = 0; sample < k.samples; ++sample) {
      const int64_t at = slot * k.samples + sample;
      const Course course = head ? head_course(k, at) : forecast(k, at);
      if (head) refresh(k, slot, sample, course);
      const float* velocity = applied(k, slot, sample, course);
      k.score[at] = token_score(k, velocity);
      move(k, slot, sample, velocity, course.bend);
      count(k, at, head);
    }
  }
}

}  // namespace flagdit
