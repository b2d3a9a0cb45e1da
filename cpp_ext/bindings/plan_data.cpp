// Plan and its parts: all a run decides beforehand, read-only.
#include <nanobind/operators.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "flagdit/make_plan.h"
#include "flagdit/names.h"
#include "flagdit/refresh.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

using Capacity = nb::ndarray<nb::numpy, const int32_t, nb::ndim<2>, nb::c_contig>;

// One entry a step: those that were given, or the same for all.
template <typename T>
std::vector<T> of_steps(const char* name, std::optional<std::vector<T>> given, T otherwise,
                        size_t steps) {
  if (!given) return std::vector<T>(steps, otherwise);
  if (given->size() == steps) return std::move(*given);
  throw std::invalid_argument(std::string("Plan: ") + name + ": got " +
                              std::to_string(given->size()) + ", allowed " + std::to_string(steps) +
                              ", one for each step");
}

void set_capacity(Plan& plan, const std::optional<Capacity>& given) {
  if (!given) {
    const int64_t least = least_max_age(plan.steps, plan.tokens, plan.pinned);
    plan.capacity_columns = std::max(plan.max_age, least) + 1;
    plan.capacity =
        refresh_capacity(plan.steps, plan.tokens, plan.pinned, plan.capacity_columns - 1);
    return;
  }
  if (given->shape(0) != plan.steps.size() ||
      static_cast<int64_t>(given->shape(1)) <= plan.max_age) {
    throw std::invalid_argument("Plan: capacity: got (" + std::to_string(given->shape(0)) + ", " +
                                std::to_string(given->shape(1)) + "), allowed (" +
                                std::to_string(plan.steps.size()) + ", " +
                                std::to_string(plan.max_age + 1) + ") or wider");
  }
  plan.capacity_columns = static_cast<int64_t>(given->shape(1));
  plan.capacity.assign(given->data(), given->data() + given->size());
}

void init_plan(Plan* self, std::vector<Step> steps, std::vector<Evaluation> evaluations,
               int64_t tokens, std::optional<std::vector<double>> damping,
               std::optional<std::vector<bool>> unconditional, int64_t pinned, int64_t max_age,
               const std::optional<Capacity>& capacity, const Keeps& keeps, const Ranking& ranking,
               const Forecast& forecast, const Budget& budget,
               std::optional<std::vector<int64_t>> phase, std::optional<std::vector<bool>> skips,
               bool rest_text) {
  Plan plan;
  plan.steps = std::move(steps);
  plan.evaluations = std::move(evaluations);
  plan.damping = of_steps("damping", std::move(damping), 0.0, plan.steps.size());
  plan.unconditional = of_steps("unconditional", std::move(unconditional), true, plan.steps.size());
  plan.skips = of_steps("skips", std::move(skips), false, plan.steps.size());
  plan.phase = of_steps("phase", std::move(phase), int64_t{0}, plan.steps.size());
  plan.tokens = tokens, plan.pinned = pinned, plan.max_age = max_age;
  set_capacity(plan, capacity);
  plan.keeps = keeps, plan.ranking = ranking, plan.forecast = forecast, plan.budget = budget;
  plan.rest_text = rest_text;
  new (self) Plan(std::move(plan));
}

Capacity capacity_of(nb::handle self) {
  const Plan& plan = nb::cast<const Plan&>(self);
  const auto columns = static_cast<size_t>(plan.capacity_columns);
  return Capacity(plan.capacity.data(), {plan.steps.size(), columns}, self);
}

void register_keeps(nb::module_& m) {
  nb::class_<Keeps>(m, "Keeps", "What a run remembers of every token besides its last velocity.")
      .def(
          "__init__",
          [](Keeps* self, bool rate, bool slope, bool curve, bool difference, bool cache_slope,
             bool known) { new (self) Keeps{rate, slope, curve, difference, cache_slope, known}; },
          nb::kw_only(), "rate"_a = false, "slope"_a = false, "curve"_a = false,
          "difference"_a = false, "cache_slope"_a = false, "known"_a = false)
      .def_ro("rate", &Keeps::rate, "When that was computed, and how far it was off: two numbers.")
      .def_ro("slope", &Keeps::slope, "How it changed: as many values as the velocity.")
      .def_ro("curve", &Keeps::curve, "How the slope changed: as many again, and a number.")
      .def_ro("difference", &Keeps::difference,
              "Of guidance, for steps that reuse it: as many values as the velocity.")
      .def_ro("cache_slope", &Keeps::cache_slope,
              "How keys and values changed, and the last computed ones: as many values each.")
      .def_ro("known", &Keeps::known,
              "Whose velocity is given, and that: a flag, and as many values.")
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object, /) -> bool"));
}

void register_choices(nb::module_& m) {
  nb::class_<Ranking>(m, "Ranking", "How the tokens of the next head are chosen.")
      .def(
          "__init__",
          [](Ranking* self, const std::string& metric, const std::string& mode, double starvation,
             double dilation) {
            new (self) Ranking{to_metric("Ranking", metric), to_mode("Ranking", mode), starvation,
                               dilation};
          },
          nb::kw_only(), "metric"_a = "change", "mode"_a = "corrected", "starvation"_a = 0.1,
          "dilation"_a = 0.0)
      .def_prop_ro("metric", [](const Ranking& r) { return std::string(name_of(r.metric)); })
      .def_prop_ro("mode", [](const Ranking& r) { return std::string(name_of(r.mode)); })
      .def_ro("starvation", &Ranking::starvation)
      .def_ro("dilation", &Ranking::dilation);
  nb::class_<Forecast>(m, "Forecast", "How velocities of the tail go on; order 0: as they are.")
      .def(
          "__init__",
          [](Forecast* self, int64_t order, double clamp, bool keep_norm) {
            new (self) Forecast{order, clamp, keep_norm};
          },
          nb::kw_only(), "order"_a = 0, "clamp"_a = 0.5, "keep_norm"_a = false)
      .def_ro("order", &Forecast::order)
      .def_ro("clamp", &Forecast::clamp)
      .def_ro("keep_norm", &Forecast::keep_norm);
  nb::class_<Budget>(m, "Budget", "What a step may decide when it runs; 0 turns either off.")
      .def(
          "__init__",
          [](Budget* self, double error_budget, double gate, int64_t bucket,
             int64_t head_multiple) {
            new (self) Budget{error_budget, gate, bucket, head_multiple};
          },
          nb::kw_only(), "error_budget"_a = 0.0, "gate"_a = 0.0, "bucket"_a = 1,
          "head_multiple"_a = 1)
      .def_ro("error_budget", &Budget::error_budget)
      .def_ro("gate", &Budget::gate)
      .def_ro("bucket", &Budget::bucket)
      .def_ro("head_multiple", &Budget::head_multiple);
}

constexpr const char* kPlanInit =
    "def __init__(self, *, steps: Sequence[Step], evaluations: Sequence[Evaluation], tokens: int, "
    "damping: Sequence[float] | None = None, unconditional: Sequence[bool] | None = None, "
    "pinned: int = 0, max_age: int = -1, capacity: NDArray[numpy.int32] | None = None, "
    "keeps: Keeps = ..., ranking: Ranking = ..., forecast: Forecast = ..., budget: Budget = ..., "
    "phase: Sequence[int] | None = None, skips: Sequence[bool] | None = None, rest_text: bool = "
    "False) -> None";

}  // namespace

void register_plan_data(nb::module_& m) {
  register_keeps(m);
  register_choices(m);
  nb::class_<Plan>(m, "Plan",
                   "All decisions about which step recomputes how much, made before anything runs.")
      .def("__init__", &init_plan, nb::sig(kPlanInit), nb::kw_only(), "steps"_a, "evaluations"_a,
           "tokens"_a, "damping"_a = nb::none(), "unconditional"_a = nb::none(), "pinned"_a = 0,
           "max_age"_a = -1, "capacity"_a = nb::none(), "keeps"_a = Keeps{},
           "ranking"_a = Ranking{}, "forecast"_a = Forecast{}, "budget"_a = Budget{},
           "phase"_a = nb::none(), "skips"_a = nb::none(), "rest_text"_a = false)
      .def_ro("steps", &Plan::steps)
      .def_ro("evaluations", &Plan::evaluations,
              "Engine calls, in order: one or two a step, as the solver needs.")
      .def_ro("damping", &Plan::damping,
              "(S,): share of the line that cached keys and values go along, 0 outside RAS steps.")
      .def_prop_ro(
          "unconditional", [](const Plan& plan) { return plan.unconditional; },
          "(S,): whether a step runs that branch of guidance, or reuses the difference.")
      .def_prop_ro(
          "skips", [](const Plan& plan) { return plan.skips; },
          "(S,): whether a step runs the branch that skips layers, too.")
      .def_ro("phase", &Plan::phase,
              "(S,): of the model's phases, the one that a step's tokens are placed for.")
      .def("places_anew", &Plan::places_anew, "step"_a,
           "Whether tokens are placed anew before a step: it is of another phase than the one "
           "before.")
      .def("turns", &Plan::turns, "step"_a,
           "Whether the guided velocity of a step is of another field than before: a branch that "
           "skips layers begins, or has ended.")
      .def("branches", &Plan::branches, "step"_a, "Of guidance that a step runs.")
      .def_ro("tokens", &Plan::tokens)
      .def_ro("pinned", &Plan::pinned)
      .def_ro("max_age", &Plan::max_age, "-1: no bound.")
      .def_prop_ro("capacity", &capacity_of, nb::sig("def capacity(self) -> NDArray[numpy.int32]"),
                   "(S, max_age + 1): patches that the steps after each one can still recompute.")
      .def_ro("keeps", &Plan::keeps)
      .def_ro("ranking", &Plan::ranking)
      .def_ro("forecast", &Plan::forecast)
      .def_ro("budget", &Plan::budget)
      .def_ro("rest_text", &Plan::rest_text,
              "Whether RAS steps leave the text's keys and values as they are.")
      .def("scored_at", &Plan::scored_at, "step"_a,
           "The time that the scores after a step look ahead to: of the next step's last "
           "evaluation.")
      .def("runs", &Plan::runs, "call"_a, "step"_a,
           "Whether a step makes the first call of `denoise` (0), the second or the third, where "
           "branches are apart.")
      .def("precedes_ras", &Plan::precedes_ras, "call"_a, "step"_a,
           "Whether the next step after this one that makes that call reads what is cached.");
}

}  // namespace flagdit::python
