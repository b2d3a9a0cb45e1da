// What was said of how to sample, a preset, and the
// model's defaults: the only place where they meet.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "flagdit/fields.h"
#include "flagdit/presets.h"

namespace flagdit {

// Of the steps that the preset does not make dense:
// the same in all (then without an end), or falling.
struct SaidRatio {
  Number first;
  std::optional<Number> last{};
};

// Patches and steps: RegionBudget's skip_step and skip_every.
struct Schedule {
  int64_t step, every;
};

// What a caller says; what nobody says is the preset's.
//
// changes: of fields of Regions. A ratio, a schedule and a mode are what the options of those names
// say; a list of ratios says also which steps are dense; and `warmup` and `resets` are all that is,
// in a preset too.
// coarse: what begins at a smaller size; one of factor 1 turns off what the preset has. The
// preset's steps and regions are then those that it has after the time `coarse.until`; `steps` are
// those at the full size.
struct Options {
  std::optional<std::string> preset{};
  std::optional<Steps> steps{};
  std::optional<Number> shift{};
  std::optional<Solver> solver{};
  std::optional<Regions> regions{};  // all of them, in place of the preset's
  bool dense = false;                // compute everything in every step
  Mode mode = Mode::corrected;
  std::optional<SaidRatio> ratio{};
  std::optional<Schedule> schedule{};
  Changes changes{};
  std::optional<Coarse> coarse{};
};

// The preset that all that is not said is from; paper mode has none.
std::optional<std::string> begins_with(const Options& options);

// How a run is sampled, with nothing left open; `shift` is the model's own.
// Throws Error if options contradict each other, name no preset, or say a number of steps, or a
// shift that it has to count with, that is out of bounds; all other bounds are the plan's to check.
Preset resolve(const Options& options, const Presets& presets, const Number& shift);

// Parts of it.
// The same plan with another ratio: what is dense stays dense, unless nothing else is.
Regions with_ratio(const Regions& regions, const SaidRatio& ratio, int64_t steps);
// Regions that were planned for `steps` steps, in a run of `count`: as large a part of it is dense
// at its start.
Regions resized(const Regions& regions, int64_t steps, int64_t count);
// Regions of `count` steps with other fields, see Options::changes.
Regions changed(const Regions& regions, const Changes& changes, int64_t count);

}  // namespace flagdit
