// What becomes of a preset where a picture is given: its last steps.
#include <algorithm>
#include <string>
#include <utility>

#include "flagdit/error.h"
#include "flagdit/presets.h"
#include "flagdit/times.h"

namespace flagdit {
namespace {

// Of a list with an entry a step, those of the last steps.
PerStep last_of(const PerStep& all, int64_t first) {
  const auto* each = std::get_if<std::vector<Number>>(&all);
  if (each == nullptr || static_cast<int64_t>(each->size()) <= first) return all;
  return std::vector<Number>(each->begin() + first, each->end());
}

// A step that leaves patches out computes so much of what it would.
PerStep scaled(const PerStep& ratios, double share) {
  const auto less = [share](const Number& ratio) {
    return ratio < 1 ? Number(ratio * share) : ratio;
  };
  if (const Number* one = std::get_if<Number>(&ratios)) return less(*one);
  std::vector<Number> out;
  for (const Number& ratio : std::get<std::vector<Number>>(ratios)) out.push_back(less(ratio));
  return out;
}

}  // namespace

Preset begun(const Preset& preset, const Number& strength, double share) {
  if (!(strength > 0 && strength <= 1)) {
    throw Error(Fault::request, "strength is " + text_of(strength) +
                                    "; allowed are above 0 (nothing is painted) to 1 (all is)");
  }
  if (preset.coarse) {
    throw Error(Fault::request,
                "a picture is given, and coarse begins with a smaller one of noise; leave coarse "
                "out, or take a preset without");
  }
  const std::vector<double> times = times_of(preset.steps, preset.shift.value_or(1.0), Span{});
  const auto steps = static_cast<int64_t>(times.size()) - 1;
  const int64_t count =
      std::clamp<int64_t>(rounded(static_cast<double>(steps) * strength), 1, steps);
  const int64_t first = steps - count;
  Preset out = preset;
  out.steps = std::vector<double>(times.begin() + first, times.end());
  out.start = times[static_cast<size_t>(first)];
  out.weights.clear();
  RegionBudget& budget = out.regions.budget;
  budget.ratio = last_of(preset.regions.ratios(steps), first);
  budget.ratio_end.reset();
  if (!out.regions.paper()) budget.ratio = scaled(*budget.ratio, share);
  budget.resets.emplace();
  for (const int64_t reset : preset.regions.resets_of(steps))
    if (reset >= first) budget.resets->push_back(reset - first);
  budget.warmup = std::max(budget.warmup - first, std::min<int64_t>(budget.warmup, 1));
  if (budget.end) budget.end = std::max<int64_t>(*budget.end - first, 0);
  out.regions.forecast.caches = last_of(preset.regions.forecast.caches, first);
  std::optional<int64_t>& both = out.regions.guidance.warmup;
  if (both) both = std::max<int64_t>(*both - first, 0);
  return out;
}

}  // namespace flagdit
