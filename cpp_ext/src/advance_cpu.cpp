#include <algorithm>
#include <cmath>

#include "advance_kernel.h"

namespace flagdit {
namespace {

// Where a token's own row of `tokens` will be, free until its latent is written there.
float* scratch(const AdvanceKernel& k, int64_t slot, int64_t sample) {
  return static_cast<float*>(k.tokens) + (slot * k.branches * k.samples + sample) * k.values;
}

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

// Four sums at a time: one alone would wait for every addition.
template <typename Term>
float summed(int64_t values, Term term) {
  float sums[4] = {};
  int64_t p = 0;
  for (; p + 4 <= values; p += 4) {
    for (int i = 0; i < 4; ++i) sums[i] += term(p + i);
  }
  for (; p < values; ++p) sums[0] += term(p);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// How a token that is not computed goes on.
Course tail_course(const AdvanceKernel& k, int64_t at) {
  if (k.time == nullptr || k.forecast == 0.0f) return {};
  const Course course = newton(k, at);
  if (course.linear == 0.0f) return {};
  const int64_t first = at * k.values;
  const float* v = k.velocity + first;
  const auto d = [&](int64_t p) { return change_at(k, first + p, course); };
  const Products of{summed(k.values, [&](int64_t p) { return v[p] * v[p]; }),
                    summed(k.values, [&](int64_t p) { return v[p] * d(p); }),
                    summed(k.values, [&](int64_t p) { return d(p) * d(p); })};
  return clamp(k, course, of);
}

// Takes the head's new velocity; the sum of squares of what its course had missed.
float refresh(const AdvanceKernel& k, int64_t slot, int64_t sample, float gap) {
  const int64_t at = slot * k.samples + sample, first = at * k.values;
  if (!(gap > 0.0f)) {
    guide(k, slot, sample, k.velocity + first);
    return 0.0f;
  }
  const Course expected = tail_course(k, at);
  const float span = k.span == nullptr ? 0.0f : k.span[at];
  float* guided = scratch(k, slot, sample);
  guide(k, slot, sample, guided);
  return summed(k.values, [&](int64_t p) {
    const float missed = learn(k, first + p, expected, guided[p], gap, span);
    return missed * missed;
  });
}

// The velocity that a token moves along.
const float* applied(const AdvanceKernel& k, int64_t slot, int64_t sample, const Course& course) {
  const int64_t first = (slot * k.samples + sample) * k.values;
  if (course.linear == 0.0f) return k.velocity + first;
  float* out = scratch(k, slot, sample);
  for (int64_t p = 0; p < k.values; ++p) {
    out[p] = course.gain * (k.velocity[first + p] + change_at(k, first + p, course));
  }
  return out;
}

void move(const AdvanceKernel& k, int64_t slot, int64_t sample, const float* velocity,
          const Course& course) {
  const int64_t at = (slot * k.samples + sample) * k.values;
  float* latent = k.latent + at;
  for (int64_t p = 0; p < k.values; ++p) latent[p] += k.dt * velocity[p];
  if (course.bend != 0.0f || course.bend_curve != 0.0f) {
    for (int64_t p = 0; p < k.values; ++p) latent[p] += bend_at(k, at + p, course);
  }
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
  const bool deviation = k.metric == Metric::std && k.channels > 1;
  float sum = 0.0f;
  for (int64_t q = 0; q < pixels; ++q) {
    sum += pixel_score(velocity + q, k.channels, pixels, deviation);
  }
  return sum / static_cast<float>(pixels);
}

void advance_token(const AdvanceKernel& k, int64_t slot, int64_t sample) {
  const bool head = slot < k.active;
  const int64_t at = slot * k.samples + sample;
  const bool known = is_known(k, at);
  const float gap = head ? head_gap(k, at) : 0.0f;
  for (int64_t p = 0; known && p < k.values; ++p) learn_known(k, at * k.values + p);
  const float missed = head && !known ? refresh(k, slot, sample, gap) : 0.0f;
  const Course course = known ? Course{} : head ? head_course(k) : tail_course(k, at);
  const float* velocity = applied(k, slot, sample, course);
  if (k.metric != Metric::change) k.score[at] = token_score(k, velocity);
  move(k, slot, sample, velocity, course);
  settle(k, at, head, gap, missed);
}

}  // namespace

void advance_cpu(const AdvanceKernel& kernel) {
  const AdvanceKernel k = at_entry(kernel);
  for (int64_t slot = k.pinned; slot < k.slots; ++slot) {
    for (int64_t sample = 0; sample < k.samples; ++sample) advance_token(k, slot, sample);
  }
}

}  // namespace flagdit
