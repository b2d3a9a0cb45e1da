// How much a step computes where the run decides: by the error that the cached patches are going to
// have. With the metric `change` a score is the rms error that a patch's velocity will have at the
// next step's time if it is not computed then (advance.h).
#pragma once

#include <cstdint>
#include <vector>

namespace flagdit {

// Counts are rounded up to so many parts of the picture, so that few shapes are bound and captured.
constexpr int64_t kShares = 16;

// Mean error of all patches if the k with the highest scores are
// computed, for k = 0 .. patches, in units of each sample's velocity,
// rms; of the worst sample. score (patches, B), velocity (patches, B, P).
std::vector<double> errors_left(const float* score, const float* velocity, int64_t patches,
                                int64_t samples, int64_t values);

// The least number of patches to compute that keeps the error within the budget, in whole parts of
// the picture, each of them a multiple of `bucket`.
int64_t patches_needed(const std::vector<double>& errors, double budget, int64_t bucket);

// Whether any patch must be computed now to keep the promise of refresh.h. age (patches, B);
// future: the step's entry of the capacity.
bool forced(const int32_t* age, int64_t patches, int64_t samples, const int32_t* future,
            int64_t max_age);

}  // namespace flagdit
