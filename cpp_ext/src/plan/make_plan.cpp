#include "flagdit/make_plan.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>
#include <string>

#include "flagdit/error.h"
#include "flagdit/refresh.h"

namespace flagdit {
namespace {

// Lines of patches; 1 if nothing tells them.
int64_t lines_of(int64_t tokens, int64_t pinned) {
  const int64_t patches = tokens - pinned;
  int64_t lines = pinned;
  if (lines == 0) {
    lines = static_cast<int64_t>(std::sqrt(static_cast<double>(std::max<int64_t>(patches, 0))));
  }
  return 0 < lines && lines <= patches && patches % lines == 0 ? lines : 1;
}

std::vector<Step> steps_of(const PlanRequest& request, const std::vector<double>& times,
                           const std::vector<int64_t>& resets) {
  const Regions& r = request.regions;
  const auto count = static_cast<int64_t>(times.size()) - 1;
  PlanOptions options{};
  options.tokens = request.tokens, options.pinned = request.pinned;
  const PerStep ratios = r.ratios(count);
  if (const Number* one = std::get_if<Number>(&ratios)) {
    options.ratio = one->value;
  } else {
    const auto& each = std::get<std::vector<Number>>(ratios);
    options.ratio = std::vector<double>(each.begin(), each.end());
  }
  options.warmup = std::min(r.budget.warmup, count);
  options.resets = resets;
  options.bucket = r.budget.bucket;
  options.end = r.budget.end;
  options.skip_step = r.budget.skip_step;
  options.skip_every = r.budget.skip_every;
  options.high_ratio = r.ranking.high_ratio.value_or(r.metric() != Metric::change ? 1.0 : 0.0);
  options.mode = r.mode;
  options.head_multiple = request.head_multiple;
  options.lines = lines_of(request.tokens, request.pinned);
  return plan_steps(times, options);
}

int64_t max_age_of(const Regions& r, int64_t least) {
  const std::optional<int64_t>& said = r.ranking.max_age;
  if (r.paper() && said) {
    throw Error(Fault::request, "max_age is " + std::to_string(*said) +
                                    "; paper mode promises no bound, so leave it out");
  }
  if (r.paper() || r.ranking.starvation == 0) return -1;
  if (said && *said < least) {
    throw Error(Fault::request, "max_age is " + std::to_string(*said) +
                                    "; this plan recomputes too little to promise less than " +
                                    std::to_string(least));
  }
  return said.value_or(2 * least);
}

// What the core says of a programmer's mistake, here a user made.
std::string for_user(std::string text) {
  for (const std::string op : {"plan_steps: ", "plan_evaluations: "}) {
    if (text.compare(0, op.size(), op) == 0) text = text.substr(op.size());
  }
  return text;
}

void plan_calls(Plan& plan, const PlanRequest& request, const std::vector<double>& times,
                const std::vector<int64_t>& resets) {
  const Regions& r = request.regions;
  try {
    plan.steps = steps_of(request, times, resets);
    plan.evaluations = plan_evaluations(plan.steps, request.solver, request.weights);
    const int64_t least = least_max_age(plan.steps, plan.tokens, plan.pinned);
    plan.max_age = max_age_of(r, least);
    plan.capacity_columns = std::max(plan.max_age, least) + 1;
    plan.capacity =
        refresh_capacity(plan.steps, plan.tokens, plan.pinned, plan.capacity_columns - 1);
  } catch (const std::invalid_argument& error) {
    throw Error(Fault::request, for_user(error.what()));
  }
}

Keeps keeps_of(const Plan& plan, bool arcs) {
  const auto any = [&](auto of) {
    return std::any_of(plan.evaluations.begin(), plan.evaluations.end(), of);
  };
  const bool slope =
      plan.forecast.order > 0 || any([](const Evaluation& e) { return e.bend != 0; });
  const bool curve = plan.forecast.order == 2 || arcs;
  const std::vector<bool>& both = plan.unconditional;
  Keeps keeps;
  keeps.rate = slope || curve || plan.ranking.metric == Metric::change;
  keeps.slope = slope || curve;
  keeps.curve = curve;
  keeps.difference =
      plan.skips_layers() || std::find(both.begin(), both.end(), false) != both.end();
  keeps.cache_slope = std::any_of(plan.damping.begin(), plan.damping.end(),
                                  [](double share) { return share != 0; });
  return keeps;
}

// The resets, the steps that place tokens anew, since cached keys are of other places then, and those
// from which on velocities are of another field.
std::vector<int64_t> dense_at(std::vector<int64_t> resets, const Plan& plan, int64_t count) {
  for (int64_t step = 0; step < count; ++step)
    if (plan.places_anew(step) || plan.turns(step)) resets.push_back(step);
  return resets;
}

}  // namespace

std::vector<int64_t> phases_of(const std::vector<double>& times,
                               const std::vector<double>& phases) {
  constexpr double kSlack = 1e-9;  // times of a grid differ in their last bits
  std::vector<int64_t> out;
  for (size_t step = 0; step + 1 < times.size(); ++step) {
    const auto begun = [&](double phase) { return phase <= times[step] + kSlack; };
    out.push_back(std::max<int64_t>(std::count_if(phases.begin(), phases.end(), begun), 1) - 1);
  }
  return out;
}

Plan make_plan(const PlanRequest& request) {
  const Regions& r = request.regions;
  const std::vector<double> times = times_of(request.steps, request.shift, request.span);
  check(r, request.solver);
  const auto count = static_cast<int64_t>(times.size()) - 1;
  Plan plan;
  plan.phase = phases_of(times, request.phases);
  for (int64_t step = 0; step < count; ++step) plan.skips.push_back(request.skips.has(step));
  if (r.paper() && plan.skips_layers())
    throw Error(Fault::request,
                "paper mode has two branches of guidance; leave skip_layer_guidance out");
  const std::vector<int64_t> resets = dense_at(r.resets_of(count), plan, count);
  std::set<int64_t> full(resets.begin(), resets.end());
  for (int64_t step = 0; step < count; ++step)
    if (step < r.budget.warmup || plan.skips[static_cast<size_t>(step)]) full.insert(step);

  plan.tokens = request.tokens, plan.pinned = request.pinned;
  plan.damping = r.dampings(count);
  plan.unconditional = unconditional_steps(count, r.guidance, full);
  plan.ranking = {r.metric(), r.mode, r.ranking.starvation, r.ranking.dilation};
  plan.forecast = {static_cast<int64_t>(r.forecast.order), r.forecast.clamp, r.forecast.keep_norm};
  plan.budget = {r.budget.error_budget, r.budget.gate, r.budget.bucket, request.head_multiple};
  plan.rest_text = r.rest_text;
  plan_calls(plan, request, times, resets);
  const bool arcs = std::any_of(plan.evaluations.begin(), plan.evaluations.end(),
                                [](const Evaluation& e) { return e.arc != 0; });
  if (r.forecast.order == 1 && arcs) {
    throw Error(Fault::request,
                "forecast is 1, a line, and the weights of the steps have a curve, which would "
                "bend it; allowed are 0 and 2");
  }
  for (const Step& step : plan.steps) {
    if (step.dense) plan.damping[static_cast<size_t>(step.index)] = 0.0;
  }
  plan.keeps = keeps_of(plan, arcs);
  return plan;
}

}  // namespace flagdit
