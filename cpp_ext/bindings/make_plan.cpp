// Plans from options.
#include "flagdit/make_plan.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/set.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "options.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

Plan plan_with(nb::handle ras, nb::handle steps, int64_t tokens, int64_t pinned, nb::handle shift,
               nb::handle solver, nb::handle weights, std::pair<double, double> span,
               int64_t head_multiple, std::vector<double> phases,
               std::pair<int64_t, int64_t> skips) {
  PlanRequest request{to_regions(ras), to_steps(steps),           tokens,
                      pinned,          to_number("shift", shift), to_solver_of_user(solver)};
  request.weights = to_weights(weights);
  request.span = {span.first, span.second};
  request.head_multiple = head_multiple;
  request.phases = std::move(phases);
  request.skips = {skips.first, skips.second};
  return make_plan(request);
}

nb::object ratios_of(nb::handle ras, int64_t steps) {
  const PerStep ratios = to_regions(ras).ratios(steps);
  return std::visit([](const auto& of) { return to_python(Value(of)); }, ratios);
}

std::vector<double> dampings_of(nb::handle forecast_kv, int64_t steps) {
  Regions regions;
  set_field(regions, "forecast_kv", to_value(forecast_kv));
  return regions.dampings(steps);
}

std::vector<bool> unconditional_with(int64_t steps, nb::handle every, nb::handle warmup,
                                     const std::set<int64_t>& dense) {
  Regions regions;
  set_field(regions, "guidance_every", to_value(every));
  set_field(regions, "guidance_warmup", to_value(warmup));
  return unconditional_steps(steps, regions.guidance, dense);
}

constexpr const char* kMakePlan =
    "def make_plan(ras: object, steps: int | Sequence[float], tokens: int, pinned: int = 0, "
    "shift: float = 1.0, solver: str = 'euler', weights: Sequence[tuple[float, float, float]] = "
    "(), span: tuple[float, float] = (0.0, 1.0), head_multiple: int = 1, phases: Sequence[float] = "
    "(), skips: tuple[int, int] = (0, 0)) -> Plan";
constexpr const char* kUnconditional =
    "def unconditional_steps(steps: int, every: int, warmup: int | None = None, dense: "
    "set[int] = ...) -> list[bool]";

void register_times(nb::module_& m) {
  m.attr("MAX_STEPS") = kMaxSteps;
  m.attr("MAX_TOKENS") = kMaxTokens;
  m.def(
      "times_of",
      [](nb::handle steps, nb::handle shift, std::pair<double, double> span) {
        return times_of(to_steps(steps), to_number("shift", shift), {span.first, span.second});
      },
      nb::sig("def times_of(steps: int | Sequence[float], shift: float, span: tuple[float, float] "
              "= (0.0, 1.0)) -> list[float]"),
      "steps"_a.none(), "shift"_a.none(), "span"_a = std::make_pair(0.0, 1.0),
      "S + 1 times of the span: of a number of steps, shifted, or as they are given.");
}

}  // namespace

void register_make_plan(nb::module_& m) {
  register_times(m);
  m.def("make_plan", &plan_with, nb::sig(kMakePlan), "ras"_a, "steps"_a.none(), "tokens"_a,
        "pinned"_a = 0, "shift"_a.none() = 1.0, "solver"_a = "euler",
        "weights"_a = nb::make_tuple(), "span"_a = std::make_pair(0.0, 1.0), "head_multiple"_a = 1,
        "phases"_a = std::vector<double>(), "skips"_a = std::make_pair(0, 0),
        "Plan steps over tokens, of which the pinned ones are always recomputed. ras: an object "
        "with the attributes of RasConfig.");
  m.def("ratios_of", &ratios_of, "ras"_a, "steps"_a,
        nb::sig("def ratios_of(ras: object, steps: int) -> float | list[float]"),
        "The ratio of all steps, or of each.");
  m.def(
      "resets_of", [](nb::handle ras, int64_t steps) { return to_regions(ras).resets_of(steps); },
      "ras"_a, "steps"_a, "The reset steps of a run.");
  m.def("dampings", &dampings_of, "forecast_kv"_a.none(), "steps"_a,
        nb::sig("def dampings(forecast_kv: float | Sequence[float], steps: int) -> list[float]"),
        "The share of the way that cached keys and values go, of each step.");
  m.def("unconditional_steps", &unconditional_with, nb::sig(kUnconditional), "steps"_a,
        "every"_a.none(), "warmup"_a = nb::none(), "dense"_a = std::set<int64_t>{},
        "Whether each step runs the unconditional branch: the first `warmup` (by default half of "
        "them), dense ones, and of the others each `every`-th.");
}

}  // namespace flagdit::python
