// Settings that are good together, by name: those of flagdit for any model, and those that a bundle
// was calibrated for. How they were chosen is in docs/performance.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flagdit/coarse.h"
#include "flagdit/make_plan.h"

namespace flagdit {

constexpr const char* kDefaultPreset = "balanced";

// How a run is sampled.
struct Preset {
  Steps steps = int64_t{1};  // at the full size, from the time `coarse->until` if there is one
  Solver solver = Solver::ab2;
  Regions regions;
  std::optional<Number> shift{};   // of a number of steps; none is the model's own
  std::vector<Weights> weights{};  // of each step, in place of the solver's own (solver.h)
  std::optional<Coarse> coarse{};  // what begins at a smaller size
  double start = 0.0;              // time that it begins at, with a picture that is given

  int64_t count() const { return count_of(steps); }
};

// Its steps over tokens of the full size; with no shift of its own, even ones.
// head_multiple, phases: of the model (model.h). skips: of these steps, those that run a branch that
// skips layers.
Plan plan_of(const Preset& preset, int64_t tokens, int64_t pinned, int64_t head_multiple = 1,
             const std::vector<double>& phases = {}, StepRange skips = {});

// The last steps of a preset, for a run that begins with a picture: of its steps the share
// `strength`, at least one. Those that leave patches out compute `share` of what they would: of a
// mask, what is painted anew. Weights are left out, which hold for all steps only. Throws Error if it
// begins coarse, or a number is out of bounds.
Preset begun(const Preset& preset, const Number& strength, double share);

// In order: what is shown first is first.
using Presets = std::vector<std::pair<std::string, Preset>>;

// Throws Error if there is none of that name.
const Preset& find(const Presets& presets, const std::string& name);

// flagdit's, for a model that was not calibrated.
Presets own_presets();

// Dense at the start, where the whole picture forms; then less and less, as
// ever fewer regions still change. A dense last step takes the noise off that
// stale velocities have left: in a run of twelve steps or more it costs little
// and shows much, in a shorter one the time is worth more in another step.
struct Falling {
  int64_t warmup;
  Number ratio, ratio_end;
  bool last_dense = true;
  PerStep caches = Number(0.5);  // forecast_kv
};
Regions falling(const Falling& how);

// A preset of a bundle, as `flagdit calibrate` found it.
struct Calibrated {
  std::string name;
  int64_t width = 0, height = 0;  // that it was found at
  std::vector<double> times;
  std::vector<Weights> weights;
  std::vector<double> ratios, forecast_kv;
  bool rest_text = false;
  int64_t factor = 1;                // above 1 if it begins coarse
  std::vector<double> coarse_times;  // then
  double cost = 0.0;                 // over that of 30 dense steps
};
Preset preset_of(const Calibrated& found);

// All presets of a model: flagdit's, or in their place its own of the same names, cheapest first.
// Of a name that was calibrated for several sizes, that for the size nearest to this, by area.
Presets presets_of(const std::vector<Calibrated>& found, int64_t width, int64_t height);

// Second order at the price of Euler, where the mode knows more than Euler.
Solver default_solver(const Regions& regions);

}  // namespace flagdit
