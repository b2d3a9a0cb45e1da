#include "flagdit/presets.h"

#include <algorithm>
#include <cmath>

#include "flagdit/error.h"
#include "flagdit/fields.h"

namespace flagdit {
namespace {

// How far the sizes are apart, by area.
double distance(const Calibrated& found, int64_t width, int64_t height) {
  return std::abs(std::log(static_cast<double>(found.width * found.height) /
                           static_cast<double>(width * height)));
}

const Preset* found_in(const Presets& presets, const std::string& name) {
  for (const auto& [known, preset] : presets) {
    if (known == name) return &preset;
  }
  return nullptr;
}

}  // namespace

Plan plan_of(const Preset& preset, int64_t tokens, int64_t pinned, int64_t head_multiple,
             const std::vector<double>& phases, StepRange skips) {
  PlanRequest request{preset.regions, preset.steps, tokens, pinned, preset.shift.value_or(1.0),
                      preset.solver};
  request.weights = preset.weights;
  request.span = preset.start > 0 ? Span{preset.start, 1.0} : full_span(preset.coarse);
  request.head_multiple = head_multiple;
  request.phases = phases;
  request.skips = skips;
  return make_plan(request);
}

const Preset& find(const Presets& presets, const std::string& name) {
  if (const Preset* preset = found_in(presets, name)) return *preset;
  std::string names;
  for (const auto& [known, preset] : presets) names += (names.empty() ? "" : ", ") + known;
  throw Error(Fault::request, "preset is " + quoted(name) + "; allowed are " + names);
}

Presets own_presets() {
  return {{"quality", {int64_t{20}, Solver::ab2, falling({8, 0.6, 0.3})}},
          {"balanced", {int64_t{16}, Solver::ab2, falling({6, 0.5, 0.25})}},
          {"fast", {int64_t{10}, Solver::ab2, dense_regions()}}};
}

Regions falling(const Falling& how) {
  Regions out;
  out.budget.ratio = how.ratio;
  out.budget.ratio_end = how.ratio_end;
  out.budget.warmup = how.warmup;
  out.budget.resets = std::vector<int64_t>(how.last_dense ? 1 : 0, -1);
  out.forecast.caches = how.caches;
  return out;
}

Preset preset_of(const Calibrated& found) {
  const auto steps = static_cast<int64_t>(found.times.size()) - 1;
  const auto sparse = std::find_if(found.ratios.begin(), found.ratios.end(),
                                   [](double ratio) { return ratio < 1; });
  const bool dense = sparse == found.ratios.end();
  Preset out{found.times, Solver::ab2, {}};
  RegionBudget& budget = out.regions.budget;
  budget.ratio = Number(1.0);
  if (!dense) budget.ratio = std::vector<Number>(found.ratios.begin(), found.ratios.end());
  budget.warmup = dense ? steps : sparse - found.ratios.begin();
  budget.resets.emplace();
  const std::vector<double>& caches = found.forecast_kv;
  if (!caches.empty()) {
    out.regions.forecast.caches = std::vector<Number>(caches.begin(), caches.end());
  }
  out.regions.rest_text = found.rest_text && !dense;
  out.weights = found.weights;
  if (found.factor > 1) {
    out.coarse = Coarse{found.factor, found.coarse_times, std::nullopt, found.times.front(),
                        found.coarse_times.back()};
  }
  return out;
}

Presets presets_of(const std::vector<Calibrated>& found, int64_t width, int64_t height) {
  std::vector<const Calibrated*> far_to_near;
  for (const Calibrated& each : found) far_to_near.push_back(&each);
  std::stable_sort(far_to_near.begin(), far_to_near.end(), [&](const auto* a, const auto* b) {
    return distance(*a, width, height) > distance(*b, width, height);
  });
  std::vector<const Calibrated*> own;  // of each name the nearest
  for (const Calibrated* each : far_to_near) {
    const auto same = std::find_if(own.begin(), own.end(),
                                   [&](const auto* known) { return known->name == each->name; });
    if (same == own.end()) {
      own.push_back(each);
    } else {
      *same = each;
    }
  }
  std::stable_sort(own.begin(), own.end(),
                   [](const auto* a, const auto* b) { return a->cost < b->cost; });
  Presets out;
  for (const Calibrated* each : own) out.emplace_back(each->name, preset_of(*each));
  for (auto& [name, preset] : own_presets()) {
    if (found_in(out, name) == nullptr) out.emplace_back(name, preset);
  }
  return out;
}

Solver default_solver(const Regions& regions) {
  return regions.paper() ? Solver::euler : Solver::ab2;
}

}  // namespace flagdit
