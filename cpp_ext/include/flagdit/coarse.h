// A run that begins with a smaller picture, and goes on from it at the full size.
#pragma once

#include <cstdint>
#include <optional>

#include "flagdit/layout.h"
#include "flagdit/make_plan.h"
#include "flagdit/number.h"
#include "flagdit/times.h"

namespace flagdit {

constexpr int64_t kMostFactor = 16;

// Dense steps of ab2 at a smaller size.
struct Coarse {
  int64_t factor = 2;                 // of width and height, 2 to 16; 1 turns off what a preset has
  Steps steps = int64_t{10};          // from 0 (noise) to `end`
  std::optional<Number> shift = 2.0;  // time shift of a number of steps; none is the run's
  Number until = 0.4;  // the time, above 0 and below 1, that the enlarged picture is brought to
                       // with noise: the run at the full size starts there
  Number end = 1.0;    // 1 (data) or before: the picture is then estimated by x + (1 - t) v
};

// Throws Error if the factor or a time is out of bounds; of steps and shift the plan knows.
void check(const Coarse& coarse);

// Its steps over tokens of the smaller size; `shift` is the run's.
// phases: of the model (model.h); skips: as in plan_of.
Plan coarse_plan(const Coarse& coarse, int64_t tokens, int64_t pinned, const Number& shift,
                 const std::vector<double>& phases = {}, StepRange skips = {});

// The times of the steps at the full size.
Span full_span(const std::optional<Coarse>& coarse);

// The layout of a picture that is smaller by the factor. Throws Error if that does not tile.
// scale: pixels of a latent, in one direction, for the message.
Layout coarse_layout(const Layout& layout, int64_t factor, int64_t scale = 1);

}  // namespace flagdit
