#include "flagdit/regions.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "flagdit/error.h"
#include "flagdit/times.h"

namespace flagdit {
namespace {

constexpr int64_t kPaperResets[] = {12, 22};

// a / b, rounded down, of a positive b.
int64_t floor_half(int64_t a) { return a >= 0 ? a / 2 : (a - 1) / 2; }

// Stairs in a line from the first step after the warm-up to the last.
std::vector<Number> falling_ratios(const RegionBudget& budget, double share, int64_t steps) {
  const int64_t first = std::min(budget.warmup, steps), last = std::max<int64_t>(steps - 1, 1);
  const auto length = static_cast<double>(std::max<int64_t>(last - first, 1));
  const auto stairs =
      static_cast<double>(std::max<int64_t>(std::min(kLevels - 1, last - first), 1));
  std::vector<Number> out;
  for (int64_t s = 0; s < steps; ++s) {
    const double place = std::clamp(static_cast<double>(s - first) / length, 0.0, 1.0);
    out.emplace_back(share + std::nearbyint(place * stairs) / stairs * (*budget.ratio_end - share));
  }
  return out;
}

std::vector<int64_t> said_resets(const std::vector<int64_t>& resets, int64_t steps) {
  std::set<int64_t> out;
  for (int64_t reset : resets) out.insert(-steps <= reset && reset < 0 ? reset + steps : reset);
  return {out.begin(), out.end()};
}

}  // namespace

Metric Regions::metric() const {
  return ranking.metric.value_or(paper() ? Metric::std : Metric::change);
}

PerStep Regions::share() const {
  return budget.ratio ? *budget.ratio : PerStep(Number(paper() ? 0.5 : 0.25));
}

PerStep Regions::ratios(int64_t steps) const {
  const PerStep all = share();
  const Number* one = std::get_if<Number>(&all);
  if (one == nullptr || !budget.ratio_end) return all;
  return falling_ratios(budget, *one, steps);
}

std::vector<int64_t> Regions::resets_of(int64_t steps) const {
  if (budget.resets) return said_resets(*budget.resets, steps);
  if (paper() && steps > kPaperResets[1]) return {kPaperResets[0], kPaperResets[1]};
  std::set<int64_t> out;
  if (steps >= 20) {
    for (double place : {0.4, 0.733}) {
      const int64_t reset = rounded(place * static_cast<double>(steps));
      if (budget.warmup < reset) out.insert(reset);
    }
  } else {
    const int64_t middle = floor_half(budget.warmup + steps);
    if (budget.warmup + 1 < middle && middle < steps) out.insert(middle);
  }
  return {out.begin(), out.end()};
}

std::vector<double> Regions::dampings(int64_t steps) const {
  std::vector<Number> values;
  if (const Number* one = std::get_if<Number>(&forecast.caches)) {
    values.assign(static_cast<size_t>(std::max<int64_t>(steps, 0)), *one);
  } else {
    values = std::get<std::vector<Number>>(forecast.caches);
  }
  if (static_cast<int64_t>(values.size()) != steps) {
    throw Error(Fault::request, "forecast_kv has " + std::to_string(values.size()) +
                                    " values; allowed are one, or one for each of the " +
                                    std::to_string(steps) + " steps");
  }
  for (const Number& value : values) {
    if (!(value >= 0 && value <= 1)) {
      throw Error(Fault::request, "forecast_kv is " + text_of(value) +
                                      "; allowed are 0 (off) to 1 (the whole way along the line)");
    }
  }
  return {values.begin(), values.end()};
}

Regions dense_regions() {
  Regions out;
  out.budget.ratio = Number(1.0);
  return out;
}

std::vector<bool> unconditional_steps(int64_t steps, const RegionGuidance& guidance,
                                      const std::set<int64_t>& dense) {
  const auto check_count = [](const char* name, int64_t value) {
    if (value >= 1 && value <= kMaxSteps) return;
    throw Error(Fault::request, name + (" is " + std::to_string(value)) + "; allowed are 1 to " +
                                    std::to_string(kMaxSteps) + ", whole numbers");
  };
  check_count("guidance_every", guidance.every);
  check_count("guidance_warmup", guidance.warmup.value_or(1));
  if (guidance.every == 1 && guidance.warmup) {
    throw Error(Fault::request, "guidance_warmup is " + std::to_string(*guidance.warmup) +
                                    ", which needs a guidance_every of 2 or more; got 1");
  }
  std::vector<bool> out;
  int64_t since = 0;
  const int64_t first = guidance.warmup.value_or((steps + 1) / 2);
  for (int64_t step = 0; step < steps; ++step) {
    const bool both = step < first || dense.count(step) > 0 || since + 1 >= guidance.every;
    since = both ? 0 : since + 1;
    out.push_back(both);
  }
  return out;
}

}  // namespace flagdit
