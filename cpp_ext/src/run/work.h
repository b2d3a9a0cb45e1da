// What a step of a run enqueues, as data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "flagdit/make_plan.h"

namespace flagdit {

struct Work {
  Step step;
  size_t calls;            // of `denoise`, an evaluation
  size_t first, end;       // its evaluations of the plan
  uint64_t remembers = 0;  // a bit for each call whose caches a dense step has to remember

  // Of a step, whose first evaluation is `first`.
  Work(const Plan& plan, const Step& its, size_t first_evaluation, size_t made)
      : step(its), calls(made), first(first_evaluation), end(first_evaluation) {
    while (end < plan.evaluations.size() && plan.evaluations[end].step == step.index) ++end;
    // What is cached before tokens are placed anew is of other places, and nothing to go on from.
    const bool remembers_any = step.dense && !plan.places_anew(step.index);
    for (size_t call = 0; remembers_any && call < calls; ++call)
      if (plan.precedes_ras(static_cast<int64_t>(call), step.index))
        remembers |= uint64_t{1} << call;
  }

  // The same for steps that enqueue the same at the same addresses: all else is in tables. A step
  // has one or two evaluations, and one to three calls; slots of a run fit 28 bits (check_run.cpp).
  uint64_t key() const {
    const uint64_t kind = remembers << 4 | static_cast<uint64_t>(step.dense) << 3 |
                          (calls - 1) << 1 | (end - first - 1);
    return static_cast<uint64_t>(step.active) << 35 | static_cast<uint64_t>(step.high) << 7 | kind;
  }
};

// All steps of a plan that decides nothing as it runs; calls: of a step with all branches.
std::vector<Work> works_of(const Plan& plan, size_t calls);

}  // namespace flagdit
