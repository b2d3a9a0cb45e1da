// A plan against itself and against the layout that it is for.
#include <cmath>
#include <string>

#include "check_run.h"
#include "flagdit/checked.h"
#include "flagdit/refresh.h"

namespace flagdit {
namespace {

void check_size(const char* what, size_t got, int64_t wanted) {
  check_range(std::string("Plan: ") + what, static_cast<int64_t>(got), wanted, wanted);
}

void check_steps(const Plan& plan) {
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const Step& step = plan.steps[i];
    const auto index = static_cast<int64_t>(i);
    const std::string of = "Plan: step " + std::to_string(i) + ": ";
    check_range(of + "index", step.index, index, index);
    check_range(of + "active", step.active, plan.pinned, plan.tokens);
    check_range(of + "high", step.high, 0, plan.tokens - step.active);
    if (step.dense != (step.active == plan.tokens))
      refuse(of + "dense", step.dense ? "true" : "false",
             "true where all of the " + std::to_string(plan.tokens) + " tokens are active");
    if (!std::isfinite(step.t) || !std::isfinite(step.t_next))
      refuse(of + "t, t_next", "others", "finite numbers");
  }
}

void check_phases(const Plan& plan) {
  for (const Step& step : plan.steps) {
    const auto at = static_cast<size_t>(step.index);
    const std::string of = "Plan: phase of step " + std::to_string(step.index);
    check_range(of, plan.phase[at], at == 0 ? 0 : plan.phase[at - 1], INT32_MAX);
    if (plan.places_anew(step.index) && !step.dense)
      refuse(of,
             std::to_string(plan.phase[at]) + ", another than before, in a step that is not dense",
             "the one before");
  }
}

// A branch that skips layers begins and ends with a dense step, and runs beside both others.
void check_skips(const Plan& plan) {
  for (const Step& step : plan.steps) {
    const auto at = static_cast<size_t>(step.index);
    const std::string of = "Plan: skips of step " + std::to_string(step.index);
    if (plan.turns(step.index) && !step.dense)
      refuse(of, "another than before, in a step that is not dense", "that of the one before");
    if (plan.skips[at] && !(plan.unconditional[at] && plan.keeps.difference))
      refuse(of, "true", "false in a step that does not run the other branches, each apart");
  }
}

// Those of a step follow each other, and the last of them alone says so.
void check_evaluations(const Plan& plan) {
  const std::vector<Evaluation>& all = plan.evaluations;
  size_t at = 0;
  for (const Step& step : plan.steps) {
    const size_t first = at;
    for (; at < all.size() && all[at].step == step.index; ++at) {
      const Evaluation& e = all[at];
      const bool ends = at + 1 == all.size() || all[at + 1].step != step.index;
      const std::string of = "Plan: evaluation " + std::to_string(at) + ": ";
      if (e.last != ends)
        refuse(of + "last", e.last ? "true" : "false", "true for the last one of its step");
      if (!std::isfinite(e.t) || !std::isfinite(e.dt) || !std::isfinite(e.bend) ||
          !std::isfinite(e.arc))
        refuse(of + "t, dt, bend, arc", "others", "finite numbers");
    }
    if (at == first)
      refuse("Plan: evaluations", "none of step " + std::to_string(step.index) + " in its place",
             "one or more of every step, in the order of the steps");
  }
  if (at < all.size())
    refuse("Plan: evaluations", "one of step " + std::to_string(all[at].step) + " out of place",
           "those of the steps, in their order");
}

void check_budget(const Budget& budget) {
  if (!(budget.error_budget >= 0.0) || !(budget.gate >= 0.0))
    refuse("Plan: error_budget, gate",
           std::to_string(budget.error_budget) + ", " + std::to_string(budget.gate), "0 or above");
  check_range("Plan: bucket", budget.bucket, 1, INT32_MAX);
  check_range("Plan: head_multiple", budget.head_multiple, 1, INT32_MAX);
}

// What steps do with what is remembered is there to be done.
void check_keeps(const Plan& plan) {
  const Keeps& keeps = plan.keeps;
  if ((keeps.slope && !keeps.rate) || (keeps.curve && !keeps.slope))
    refuse("Plan: keeps", "a curve without slope, or a slope without rate",
           "what is before it kept, too");
  if (!keeps.slope && plan.forecast.order > 0)
    refuse("Plan: forecast", std::to_string(plan.forecast.order), "0 without slope");
  if (!(plan.forecast.clamp >= 0.0) || !std::isfinite(plan.forecast.clamp))
    refuse("Plan: clamp", std::to_string(plan.forecast.clamp), "a finite number of 0 or above");
  for (const Evaluation& e : plan.evaluations) {
    if (!keeps.slope && e.bend != 0.0)
      refuse("Plan: bend", std::to_string(e.bend), "0 without slope");
    if (!keeps.curve && e.arc != 0.0) refuse("Plan: arc", std::to_string(e.arc), "0 without curve");
  }
  for (const double share : plan.damping) {
    if (!(share >= 0.0 && share <= 1.0))  // also refuses NaN
      refuse("Plan: damping", std::to_string(share), "0 to 1");
  }
}

}  // namespace

void check_plan(const Plan& plan, const Layout& layout) {
  check_range("Plan: tokens", plan.tokens, layout.tokens(), layout.tokens());
  check_range("Plan: pinned", plan.pinned, layout.pinned(), layout.pinned());
  const auto steps = static_cast<int64_t>(plan.steps.size());
  check_size("damping", plan.damping.size(), steps);
  check_size("unconditional", plan.unconditional.size(), steps);
  check_size("skips", plan.skips.size(), steps);
  check_size("phase", plan.phase.size(), steps);
  check_range("Plan: max_age", plan.max_age, -1, kMaxAge);
  check_range("Plan: columns of capacity", plan.capacity_columns, plan.max_age + 1, INT32_MAX);
  check_size("capacity", plan.capacity.size(), product("capacity", {steps, plan.capacity_columns}));
  check_steps(plan);
  check_phases(plan);
  check_skips(plan);
  check_evaluations(plan);
  check_budget(plan.budget);
  check_keeps(plan);
}

}  // namespace flagdit
