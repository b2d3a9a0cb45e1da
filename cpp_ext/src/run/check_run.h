// Whether all that a run is made of fits together, before it takes any memory: whoever makes one by
// hand, or writes a graph, may be wrong.
#pragma once

#include <vector>

#include "flagdit/sampler.h"

namespace flagdit {

// Throws std::invalid_argument for sizes of the plan, the layout or the guidance that contradict
// each other, and Error(bundle) for ports of `denoise` that a run has no arrays for, and for
// conditions that are not what they take.
void check_sampler(const Session& denoise, const Extent& extent, const Plan& plan,
                   const Conditions& conditions, const std::vector<float>& guidance);

}  // namespace flagdit
