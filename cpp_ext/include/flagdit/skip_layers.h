// Skip-layer guidance: besides conditional and unconditional rows a run has rows of the same text
// whose layers are left out in part, and leads away from what those say:
//
//     v = guided + scale * (conditional - skipping)
//
// with guided as without them. The formula, the strict bounds and the defaults are those of
// StableDiffusion3Pipeline in diffusers 0.42, which has them from Stability's own programs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "flagdit/number.h"

namespace flagdit {

struct SkipLayerGuidance {
  Number scale = 2.8;
  Number start = 0.01, stop = 0.2;               // shares of the steps, see `skip_steps`
  std::optional<std::vector<int64_t>> layers{};  // from 0 on; none: those that the model says
};

// Throws Error for numbers out of bounds.
void check(const SkipLayerGuidance& guidance);
// Throws Error for what is no number of a layer.
void check_layer(const Number& layer);

// Steps of a run, or of a part of it: from the first on, before the end.
struct StepRange {
  int64_t first = 0, end = 0;

  bool has(int64_t step) const { return first <= step && step < end; }
  // Of a part that begins with a step of the run.
  StepRange from(int64_t step) const { return {first - step, end - step}; }
};

// Those steps i of n with n start < i < n stop. Throws Error if there is none.
StepRange skip_steps(const SkipLayerGuidance& guidance, int64_t steps);

// The layers, of a model that has so many (0: it knows no branch that skips some) and says which
// suit it. Throws Error if there are none, or one is none of the model's.
std::vector<int64_t> skipped_layers(const SkipLayerGuidance& guidance, int64_t layers,
                                    const std::vector<int64_t>& suiting);

}  // namespace flagdit
