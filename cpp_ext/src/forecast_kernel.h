// What `CacheForecast` hands to a backend, and the arithmetic of both.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "flagdit/forecast.h"
#include "host_device.h"
#include "tick_kernel.h"

namespace flagdit {

// The numbers of ForecastStep that a kernel reads.
struct ForecastNumbers {
  int64_t fresh;
  float time;
  int64_t active;
  float target, damping;
  bool tail;
};

struct ForecastKernel {
  const ForecastCache* caches;  // in device memory on CUDA
  int64_t count;                // of caches
  ForecastLayout layout;
  ForecastNumbers step;   // but for what the table has
  const float* numbers;   // (E, 4) or null
  Entry entry;            // of that table
  float* anchored;        // (N, B)
  const int32_t* swaps;   // (B, N, 2) or null
  const int32_t* counts;  // (B,) or null
  int32_t* partner;       // (N, B) the slot that a token comes from or goes to; its own if it stays
  float* gain;            // (N, B) 1 / the time between its last two values, or 0
  float* ahead;           // (N, B) the damped time that it is moved by
};

// The step's numbers, from the table if there is one.
FLAGDIT_HOST_DEVICE inline ForecastNumbers numbers_of(const ForecastKernel& k) {
  ForecastNumbers out = k.step;
  if (k.numbers == nullptr) return out;
  const float* row = k.numbers + 4 * current(k.entry);
  const auto fresh = static_cast<int64_t>(row[0]);
  out.fresh = fresh < 0 ? 0 : fresh < k.layout.slots ? fresh : k.layout.slots;
  out.time = row[1];
  out.target = row[2];
  out.damping = row[3];
  return out;
}

// 1 / the time since the anchor, for fresh values; 0 if they have no slope.
FLAGDIT_HOST_DEVICE inline float gain_at(const ForecastNumbers& step, float anchored) {
  const float gap = step.time - anchored;
  return gap > 0.0f && !std::isinf(gap) ? 1.0f / gap : 0.0f;
}

FLAGDIT_HOST_DEVICE inline float ahead_at(const ForecastNumbers& step, float anchored) {
  return std::isinf(anchored) ? 0.0f : step.damping * (step.target - anchored);
}

// The scalars of a token, by the slot it comes from, and its new time.
FLAGDIT_HOST_DEVICE inline void mark_token(const ForecastKernel& k, int64_t at) {
  const int64_t slot = at / k.layout.samples;
  const bool fresh = slot < k.step.fresh;
  k.partner[at] = static_cast<int32_t>(slot);
  k.gain[at] = fresh ? gain_at(k.step, k.anchored[at]) : 0.0f;
  if (fresh) k.anchored[at] = k.step.time;
  k.ahead[at] = ahead_at(k.step, k.anchored[at]);
}

// The tokens of slots i and j change places; false if a slot is outside.
FLAGDIT_HOST_DEVICE inline bool pair_tokens(const ForecastKernel& k, int64_t sample, int64_t i,
                                            int64_t j) {
  if (i < 0 || i >= k.layout.slots || j < 0 || j >= k.layout.slots) return false;
  const int64_t a = i * k.layout.samples + sample, b = j * k.layout.samples + sample;
  k.partner[a] = static_cast<int32_t>(j);
  k.partner[b] = static_cast<int32_t>(i);
  const float held = k.anchored[a];
  k.anchored[a] = k.anchored[b];
  k.anchored[b] = held;
  return true;
}

// What happens to the row of a token that stays in its slot.
enum class Stay { nothing, learn, copy, drift };

FLAGDIT_HOST_DEVICE inline Stay stay_at(const ForecastNumbers& step, int64_t slot) {
  const bool fresh = slot < step.fresh, active = slot < step.active;
  if (fresh) return active ? Stay::copy : Stay::learn;
  return active || !step.tail ? Stay::nothing : Stay::drift;
}

void forecast_cpu(const ForecastKernel& kernel);
void forecast_cuda(const ForecastKernel& kernel, Stream stream);

}  // namespace flagdit
