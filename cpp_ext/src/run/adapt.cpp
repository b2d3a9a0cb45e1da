#include "flagdit/adapt.h"

#include "../decide_rule.h"

namespace flagdit {

Step decide(const Plan& plan, const Step& step, const Buffers& state) {
  const Budget& budget = plan.budget;
  if (step.dense || (budget.error_budget == 0.0 && budget.gate == 0.0)) return step;
  int32_t active = 0;
  DecideKernel kernel{};
  kernel.score = state.score.as<float>();
  kernel.velocity = state.velocity.as<float>();
  kernel.age = state.age.as<int32_t>();
  kernel.future = plan.capacity.data() + step.index * plan.capacity_columns;
  kernel.active = &active;
  kernel.slots = plan.tokens;
  kernel.samples = state.extent.samples;
  kernel.values = state.extent.layout.patch_values();
  kernel.pinned = plan.pinned;
  kernel.planned = step.active;
  kernel.bucket = budget.bucket;
  kernel.head_multiple = budget.head_multiple;
  kernel.max_age = plan.max_age;
  kernel.error_budget = budget.error_budget;
  kernel.gate = budget.gate;
  decide_cpu(kernel);
  if (active == step.active) return step;
  // With another number of tokens, all cached ones come from the low side.
  return {step.index, step.t, step.t_next, active, active == plan.tokens, 0};
}

}  // namespace flagdit
