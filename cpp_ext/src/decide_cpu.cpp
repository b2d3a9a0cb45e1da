#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "decide_rule.h"

namespace flagdit {
namespace {

double squares_of(const float* velocity, int64_t patches, int64_t samples, int64_t values,
                  int64_t sample) {
  std::array<double, kDecideLanes> lanes{};
  for (int lane = 0; lane < std::min<int64_t>(kDecideLanes, patches); ++lane)
    lanes[static_cast<size_t>(lane)] =
        lane_squares(velocity, patches, samples, values, sample, lane);
  for (size_t half = kDecideLanes / 2; half > 0; half /= 2)
    for (size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

// Sums of the n cheapest, for n = 0 .. patches.
std::vector<double> sums_of(const std::vector<uint32_t>& sorted) {
  const auto patches = static_cast<int64_t>(sorted.size());
  const auto share = static_cast<size_t>(lane_share(patches));
  std::vector<double> out(sorted.size() + 1, 0.0);
  double before = 0.0, own = 0.0;
  for (size_t n = 0; n < sorted.size(); ++n) {
    if (n % share == 0) before += std::exchange(own, 0.0);
    own += cost_of(sorted[n]);
    out[n + 1] = before + own;
  }
  return out;
}

}  // namespace

std::vector<double> errors_left(const float* score, const float* velocity, int64_t patches,
                                int64_t samples, int64_t values) {
  const auto count = static_cast<size_t>(patches);
  std::vector<double> worst(count + 1, 0.0);
  std::vector<uint32_t> sorted(count);
  for (int64_t sample = 0; sample < samples; ++sample) {
    for (size_t i = 0; i < count; ++i)
      sorted[i] = cost_bits(score[static_cast<int64_t>(i) * samples + sample]);
    std::sort(sorted.begin(), sorted.end());
    const double scale =
        error_scale(squares_of(velocity, patches, samples, values, sample), patches, values);
    const std::vector<double> sums = sums_of(sorted);
    for (size_t k = 0; k < count; ++k) {
      const double error = sums[count - k] / scale;
      worst[k] =
          std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst[k], error);
    }
  }
  return worst;
}

int64_t patches_needed(const std::vector<double>& errors, double budget, int64_t bucket) {
  const auto patches = static_cast<int64_t>(errors.size()) - 1;
  const auto within =
      std::find_if(errors.begin(), errors.end(), [&](double error) { return error <= budget; });
  return whole_parts(within - errors.begin(), patches, bucket);  // the last is 0, so there is one
}

bool forced(const int32_t* age, int64_t patches, int64_t samples, const int32_t* future,
            int64_t max_age) {
  for (int64_t h = 1; h <= max_age + 1; ++h) {
    for (int64_t sample = 0; sample < samples; ++sample) {
      int64_t due = 0;
      for (int64_t patch = 0; patch < patches; ++patch)
        due += max_age - age[patch * samples + sample] + 1 <= h;
      if (due > future[h - 1]) return true;
    }
  }
  return false;
}

void decide_cpu(const DecideKernel& k) {
  const std::vector<double> errors = errors_left(
      k.score + k.first(), k.velocity + k.first() * k.values, k.patches(), k.samples, k.values);
  const int32_t* future = k.max_age < 0 ? nullptr : k.future + current(k.entry) * (k.max_age + 1);
  const bool left_out = errors.front() < k.gate &&
                        !forced(k.age + k.first(), k.patches(), k.samples, future, k.max_age);
  const auto within = std::find_if(errors.begin(), errors.end(),
                                   [&](double error) { return error <= k.error_budget; });
  *k.active = head_of(k, left_out, within - errors.begin());
}

}  // namespace flagdit
