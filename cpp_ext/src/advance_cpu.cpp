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

void move(const AdvanceKernel& k, int64_t slot, int64_t sample, const float* velocity) {
  float* latent = k.latent + (slot * k.samples + sample) * k.values;
  for (int64_t p = 0; p < k.values; ++p) latent[p] += k.dt * velocity[p];
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

}  // namespace

void advance_cpu(const AdvanceKernel& k) {
  for (int64_t slot = k.pinned; slot < k.slots; ++slot) {
    const bool head = slot < k.active;
    for (int64_t sample = 0; sample < k.samples; ++sample) {
      const int64_t at = slot * k.samples + sample;
      float* velocity = k.velocity + at * k.values;
      if (head) guide(k, slot, sample, velocity);
      move(k, slot, sample, velocity);
      k.score[at] = token_score(k, velocity);
      k.age[at] = head ? 0 : k.age[at] + 1;
      k.drops[at] += head ? 0 : 1;
    }
  }
}

}  // namespace flagdit
