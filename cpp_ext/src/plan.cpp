#include "flagdit/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "check.h"

namespace flagdit {
namespace {

constexpr int64_t kAnyCount = std::numeric_limits<int32_t>::max();

void check_times(const std::vector<double>& times) {
  if (times.size() < 2) {
    refuse("plan_steps: times", std::to_string(times.size()) + " times",
           "2 or more (a step is an interval)");
  }
  for (size_t i = 1; i < times.size(); ++i) {
    if (!(times[i - 1] < times[i])) {  // also catches NaN
      refuse("plan_steps: times",
             std::to_string(times[i]) + " after " + std::to_string(times[i - 1]),
             "strictly increasing times");
    }
  }
}

void check_counts(const PlanOptions& options, int64_t steps) {
  check_range("plan_steps: tokens", options.tokens, 1, kAnyCount);
  check_range("plan_steps: pinned", options.pinned, 0, options.tokens);
  check_range("plan_steps: warmup", options.warmup, 0, kAnyCount);
  check_range("plan_steps: bucket", options.bucket, 1, kAnyCount);
  for (int64_t reset : options.resets) {
    check_range("plan_steps: resets of a plan with " + std::to_string(steps) + " steps", reset, 0,
                steps - 1);
  }
}

std::vector<double> ratio_per_step(const PlanOptions& options, size_t steps) {
  std::vector<double> ratios;
  if (const double* ratio = std::get_if<double>(&options.ratio)) {
    ratios.assign(steps, *ratio);
  } else {
    ratios = std::get<std::vector<double>>(options.ratio);
  }
  if (ratios.size() != steps) {
    refuse("plan_steps: ratio", std::to_string(ratios.size()) + " ratios",
           "one number, or " + std::to_string(steps) + " (one for each step)");
  }
  for (double ratio : ratios) {
    if (!(ratio > 0.0 && ratio <= 1.0)) {
      refuse("plan_steps: ratio", std::to_string(ratio), "above 0, at most 1");
    }
  }
  return ratios;
}

int64_t active_tokens(const PlanOptions& options, double ratio) {
  const int64_t patches = options.tokens - options.pinned;
  // 0.55 * 100 is 55.000000000000007: without the slack, rounding would add a patch.
  const auto wanted = static_cast<int64_t>(std::ceil(ratio * static_cast<double>(patches) - 1e-9));
  const int64_t buckets = (wanted + options.bucket - 1) / options.bucket;
  return options.pinned + std::min(buckets * options.bucket, patches);
}

}  // namespace

bool Step::operator==(const Step& other) const {
  return index == other.index && t == other.t && t_next == other.t_next && active == other.active &&
         dense == other.dense;
}

std::vector<double> flow_times(int64_t steps, double shift) {
  check_range("flow_times: steps", steps, 1, kAnyCount);
  if (!(shift > 0.0) || !std::isfinite(shift)) {
    refuse("flow_times: shift", std::to_string(shift), "above 0");
  }
  std::vector<double> times(static_cast<size_t>(steps) + 1);
  for (int64_t i = 0; i <= steps; ++i) {
    const double t = static_cast<double>(i) / static_cast<double>(steps);
    times[static_cast<size_t>(i)] = t / (t + shift * (1.0 - t));  // exactly 1 at t = 1
  }
  return times;
}

std::vector<Step> plan_steps(const std::vector<double>& times, const PlanOptions& options) {
  check_times(times);
  const size_t count = times.size() - 1;
  check_counts(options, static_cast<int64_t>(count));
  const std::vector<double> ratios = ratio_per_step(options, count);

  std::vector<Step> steps;
  steps.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const auto index = static_cast<int64_t>(i);
    const bool reset = std::count(options.resets.begin(), options.resets.end(), index) > 0;
    const int64_t active =
        index < options.warmup || reset ? options.tokens : active_tokens(options, ratios[i]);
    steps.push_back({index, times[i], times[i + 1], active, active == options.tokens});
  }
  if (!steps.front().dense) {
    refuse("plan_steps: warmup", std::to_string(options.warmup) + " with a first ratio below 1",
           "1 or more, or a reset at step 0 (the first step has no cache to read)");
  }
  return steps;
}

}  // namespace flagdit
