// The rule of `decide_active`, shared by its backends so that they cannot disagree: the order of
// the sums, and what follows from them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "flagdit/adapt.h"
#include "flagdit/decide.h"
#include "head_multiple.h"
#include "host_device.h"
#include "tick_kernel.h"

namespace flagdit {

// Sums are made in so many lanes. Of squares, lane l has the patches l, l + kLanes, ..., and lanes
// are added in pairs, the upper half to the lower, until one is left. Of sorted scores, lane l has
// the l-th share, and begins with the sums of all lanes before, added in order.
constexpr int kDecideLanes = 1024;
// Patches that are sorted in fast memory.
constexpr int64_t kDecideShared = 4096;

struct DecideKernel {
  const float* score;     // (N, B)
  const float* velocity;  // (N, B, P)
  const int32_t* age;     // (N, B)
  const int32_t* future;  // (E, max_age + 1)
  Entry entry;            // of future
  int32_t* scratch;       // (B, 2): patches needed, whether the sample may be left out; then
                          // (B, sorted) if they are not sorted in fast memory
  int32_t* active;        // (1,)
  int64_t slots, samples, values, pinned, planned, bucket, head_multiple, max_age;
  double error_budget, gate;

  FLAGDIT_HOST_DEVICE int64_t patches() const { return slots - pinned; }
  FLAGDIT_HOST_DEVICE int64_t first() const { return pinned * samples; }
};

// A score as an integer of the same order: what is below 0 as 0, a NaN as infinite.
FLAGDIT_HOST_DEVICE inline uint32_t cost_bits(float score) {
  if (score != score) return 0x7f800000u;
  if (!(score > 0.0f)) return 0;
  uint32_t bits = 0;
  memcpy(&bits, &score, sizeof bits);
  return bits;
}

FLAGDIT_HOST_DEVICE inline double cost_of(uint32_t bits) {
  float score = 0.0f;
  memcpy(&score, &bits, sizeof score);
  return score;
}

// Sum of squares of a lane. A product of two floats is exact in double.
FLAGDIT_HOST_DEVICE inline double lane_squares(const float* velocity, int64_t patches,
                                               int64_t samples, int64_t values, int64_t sample,
                                               int64_t lane) {
  double sum = 0.0;
  for (int64_t patch = lane; patch < patches; patch += kDecideLanes) {
    const float* v = velocity + (patch * samples + sample) * values;
    for (int64_t i = 0; i < values; ++i) sum += static_cast<double>(v[i]) * v[i];
  }
  return sum;
}

// What a sum of scores is divided by: the velocity's rms, times the patches.
FLAGDIT_HOST_DEVICE inline double error_scale(double squares, int64_t patches, int64_t values) {
  const double rms = std::sqrt(squares / static_cast<double>(patches * values));
  return (rms < 1e-12 ? 1e-12 : rms) * static_cast<double>(patches);
}

// Patches that a lane has of the sorted ones.
FLAGDIT_HOST_DEVICE inline int64_t lane_share(int64_t patches) {
  return (patches + kDecideLanes - 1) / kDecideLanes;
}

// A count of patches in whole parts of the picture, each of them a multiple of `bucket`.
FLAGDIT_HOST_DEVICE inline int64_t whole_parts(int64_t count, int64_t patches, int64_t bucket) {
  const int64_t least = kShares * bucket, part = (patches + least - 1) / least * bucket;
  const int64_t rounded = (count + part - 1) / part * part;
  return rounded < patches ? rounded : patches;
}

// The slots of the head: `needed` patches keep the error within the budget.
FLAGDIT_HOST_DEVICE inline int32_t head_of(const DecideKernel& k, bool left_out, int64_t needed) {
  if (left_out) return 0;
  if (k.error_budget == 0.0) return static_cast<int32_t>(k.planned);
  const int64_t active =
      rounded_head(k.pinned + whole_parts(needed, k.patches(), k.bucket), k.slots, k.head_multiple);
  return static_cast<int32_t>(active > k.planned ? active : k.planned);
}

void decide_cpu(const DecideKernel& kernel);
void decide_cuda(const DecideKernel& kernel, Stream stream);

}  // namespace flagdit
