#include "flagdit/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "check.h"
#include "head_multiple.h"

namespace flagdit {
namespace {

constexpr int64_t kAnyCount = std::numeric_limits<int32_t>::max();
constexpr int64_t kMostTimes = 1'000'000;  // of which a list is made
constexpr int64_t kPaperBucket = 64;  // of the published linear schedule, on the skipped patches

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
  for (double time : {times.front(), times.back()}) {
    if (!std::isfinite(time)) refuse("plan_steps: times", std::to_string(time), "finite times");
  }
}

void check_counts(const PlanOptions& options, int64_t steps) {
  check_range("plan_steps: tokens", options.tokens, 1, kAnyCount);
  check_range("plan_steps: pinned", options.pinned, 0, options.tokens);
  check_range("plan_steps: warmup", options.warmup, 0, kAnyCount);
  const int64_t patches = options.tokens - options.pinned;
  check_range("plan_steps: lines", options.lines, 1, std::max<int64_t>(patches, 1));
  if (patches % options.lines != 0) {
    refuse("plan_steps: lines", std::to_string(options.lines),
           "a divisor of " + std::to_string(patches) + " patches");
  }
  const bool paper = options.mode == Mode::paper;
  check_range("plan_steps: head_multiple", options.head_multiple, 1, kAnyCount);
  check_range(paper ? "plan_steps: bucket in paper mode" : "plan_steps: bucket", options.bucket, 1,
              paper ? 1 : kAnyCount);
  if (options.end) {
    check_range("plan_steps: end", *options.end, options.warmup, std::max(options.warmup, steps));
  }
  for (int64_t reset : options.resets) {
    check_range("plan_steps: resets of a plan with " + std::to_string(steps) + " steps", reset, 0,
                steps - 1);
  }
}

void check_schedule(const PlanOptions& options) {
  if (!(options.high_ratio >= 0.0 && options.high_ratio <= 1.0)) {
    refuse("plan_steps: high_ratio", std::to_string(options.high_ratio), "0..1");
  }
  check_range("plan_steps: skip_step", options.skip_step, -kAnyCount, kAnyCount);
  check_range("plan_steps: skip_every", options.skip_every, 0, kAnyCount);
  if ((options.skip_step != 0) != (options.skip_every != 0)) {
    refuse("plan_steps: skip_step and skip_every",
           std::to_string(options.skip_step) + " and " + std::to_string(options.skip_every),
           "both, or neither for a static ratio");
  }
  if (options.skip_every != 0 && !std::holds_alternative<double>(options.ratio)) {
    refuse("plan_steps: skip_step", "a ratio for each step", "one ratio, the schedule's middle");
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

// Patches of one step, cached from the low and the high side of the score.
struct Cached {
  int64_t low, high;
};

// The linear schedule's distance from its middle at step i of n: negative before it.
int64_t schedule_change(const PlanOptions& options, int64_t i, int64_t n) {
  if (options.skip_every == 0) return 0;
  const int64_t middle = (n + options.warmup) / options.skip_every / 2;
  return options.skip_step * (i / options.skip_every - middle);
}

void check_skip(const PlanOptions& options, int64_t i, int64_t skip) {
  const int64_t patches = options.tokens - options.pinned;
  check_range("plan_steps: patches to cache in step " + std::to_string(i), skip, 0,
              std::max<int64_t>(patches - 1, 0));
}

Cached cached_patches(const PlanOptions& options, double ratio, int64_t i, int64_t n) {
  const int64_t patches = options.tokens - options.pinned;
  // 0.55 * 100 is 55.000000000000007: without the slack, rounding would add a patch.
  const auto wanted = static_cast<int64_t>(std::ceil(ratio * static_cast<double>(patches) - 1e-9));
  const int64_t planned = patches - wanted + schedule_change(options, i, n);
  check_skip(options, i, planned);
  const int64_t buckets = (patches - planned + options.bucket - 1) / options.bucket;
  const int64_t skip = patches - std::min(buckets * options.bucket, patches);
  const int64_t high = std::llround(static_cast<double>(skip) * options.high_ratio);
  return {skip - high, high};
}

// The published arithmetic to the last int(), so that the same patches are cached. It multiplies
// by lines and then by columns: .45 of 40 by 40 are 720, where .45 of 1600 would be 719.
Cached paper_patches(const PlanOptions& options, double ratio, int64_t i, int64_t n) {
  const int64_t columns = (options.tokens - options.pinned) / options.lines;
  const double share = (1.0 - ratio) * static_cast<double>(options.lines);
  int64_t skip = static_cast<int64_t>(share * static_cast<double>(columns));
  skip += schedule_change(options, i, n);
  if (options.skip_every != 0 && skip > 0) skip -= skip % kPaperBucket;
  check_skip(options, i, skip);
  const auto count = static_cast<double>(skip);
  return {static_cast<int64_t>(count * (1.0 - options.high_ratio)),
          static_cast<int64_t>(count * options.high_ratio)};
}

// The same with as many patches less as round the active slots up.
Cached rounded(const PlanOptions& options, const Cached& cached) {
  const int64_t active = options.tokens - cached.low - cached.high;
  const int64_t more = rounded_head(active, options.tokens, options.head_multiple) - active;
  const int64_t low = std::min(more, cached.low);
  return {cached.low - low, cached.high - (more - low)};
}

Cached plan_step(const PlanOptions& options, double ratio, int64_t i, int64_t n) {
  const bool reset = std::count(options.resets.begin(), options.resets.end(), i) > 0;
  if (i < options.warmup || reset || i > options.end.value_or(n)) return {0, 0};
  return rounded(options, options.mode == Mode::paper ? paper_patches(options, ratio, i, n)
                                                      : cached_patches(options, ratio, i, n));
}

}  // namespace

bool Step::operator==(const Step& other) const {
  return index == other.index && t == other.t && t_next == other.t_next && active == other.active &&
         dense == other.dense && high == other.high;
}

std::vector<double> flow_times(int64_t steps, double shift) {
  check_range("flow_times: steps", steps, 1, kMostTimes);
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
  const auto count = static_cast<int64_t>(times.size()) - 1;
  check_counts(options, count);
  check_schedule(options);
  const std::vector<double> ratios = ratio_per_step(options, times.size() - 1);

  std::vector<Step> steps;
  steps.reserve(ratios.size());
  for (size_t i = 0; i < ratios.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    const Cached cached = plan_step(options, ratios[i], index, count);
    const int64_t active = options.tokens - cached.low - cached.high;
    steps.push_back({index, times[i], times[i + 1], active, active == options.tokens, cached.high});
  }
  if (!steps.front().dense) {
    refuse("plan_steps: warmup", std::to_string(options.warmup) + " with a first ratio below 1",
           "1 or more, or a reset at step 0 (the first step has no cache to read)");
  }
  return steps;
}

}  // namespace flagdit
