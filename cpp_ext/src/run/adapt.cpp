#include "flagdit/adapt.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace flagdit {
namespace {

// The step with another number of tokens, and all cached ones from the low side.
Step with_active(const Step& step, int64_t active, int64_t tokens) {
  return {step.index, step.t, step.t_next, active, active == tokens, 0};
}

double rms(const float* velocity, int64_t patches, int64_t samples, int64_t values,
           int64_t sample) {
  double sum = 0.0;
  for (int64_t patch = 0; patch < patches; ++patch) {
    const float* v = velocity + (patch * samples + sample) * values;
    for (int64_t i = 0; i < values; ++i) sum += static_cast<double>(v[i]) * v[i];
  }
  return std::sqrt(sum / static_cast<double>(patches * values));
}

}  // namespace

std::vector<double> errors_left(const float* score, const float* velocity, int64_t patches,
                                int64_t samples, int64_t values) {
  const auto count = static_cast<size_t>(patches);
  std::vector<double> worst(count + 1, 0.0), sorted(count);
  for (int64_t sample = 0; sample < samples; ++sample) {
    for (size_t i = 0; i < count; ++i)
      sorted[i] = score[static_cast<int64_t>(i) * samples + sample];
    std::sort(sorted.begin(), sorted.end(), std::greater<double>());
    const double scale = std::max(rms(velocity, patches, samples, values, sample), 1e-12) *
                         static_cast<double>(patches);
    double left = 0.0;
    for (size_t k = count; k-- > 0;) {
      left += sorted[k];
      worst[k] = std::max(worst[k], left / scale);
    }
  }
  return worst;
}

int64_t patches_needed(const std::vector<double>& errors, double budget, int64_t bucket) {
  const auto patches = static_cast<int64_t>(errors.size()) - 1;
  const auto within =
      std::find_if(errors.begin(), errors.end(), [&](double error) { return error <= budget; });
  const int64_t count = within - errors.begin();  // the last is 0, so there is one
  const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t part = up(patches, kShares * bucket) * bucket;
  return std::min(up(count, part) * part, patches);
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

Step decide(const Plan& plan, const Step& step, const Buffers& state) {
  const Budget& budget = plan.budget;
  if (step.dense || (budget.error_budget == 0.0 && budget.gate == 0.0)) return step;
  const int64_t b = state.extent.samples, p = state.extent.layout.patch_values();
  const int64_t first = plan.pinned * b, patches = plan.tokens - plan.pinned;
  const std::vector<double> errors = errors_left(
      state.score.as<float>() + first, state.velocity.as<float>() + first * p, patches, b, p);
  if (errors.front() < budget.gate) {
    const int32_t* future = plan.capacity.data() + step.index * plan.capacity_columns;
    if (!forced(state.age.as<int32_t>() + first, patches, b, future, plan.max_age))
      return with_active(step, 0, plan.tokens);
  }
  if (budget.error_budget == 0.0) return step;
  const int64_t active = plan.pinned + patches_needed(errors, budget.error_budget, budget.bucket);
  return with_active(step, std::max(step.active, active), plan.tokens);
}

}  // namespace flagdit
