#include "flagdit/solver.h"

#include <nanobind/operators.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdio>
#include <functional>
#include <optional>
#include <stdexcept>

#include "arrays.h"
#include "flagdit/names.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

std::string repr_evaluation(const Evaluation& evaluation) {
  char text[192];
  std::snprintf(text, sizeof text,
                "Evaluation(step=%lld, t=%.6g, dt=%.6g, bend=%.6g, last=%s, arc=%.6g)",
                static_cast<long long>(evaluation.step), evaluation.t, evaluation.dt,
                evaluation.bend, evaluation.last ? "True" : "False", evaluation.arc);
  return text;
}

constexpr const char* kPlanEvaluations =
    "def plan_evaluations(steps: Sequence[Step], solver: str = 'euler', "
    "weights: Sequence[tuple[float, float, float]] = ()) -> list[Evaluation]";

}  // namespace

Solver to_solver(const std::string& op, const std::string& name) {
  if (const std::optional<Solver> solver = solver_of(name)) return *solver;
  throw std::invalid_argument(op + ": solver: got '" + name +
                              "', allowed 'euler', 'midpoint', 'heun', 'ab2'");
}

void register_solver(nb::module_& m) {
  nb::class_<Evaluation>(m, "Evaluation", "One call of `denoise`, and what it adds to the latent.")
      .def(nb::init<int64_t, double, double, double, bool, double>(), "step"_a, "t"_a, "dt"_a,
           "bend"_a, "last"_a, "arc"_a = 0.0)
      .def_ro("step", &Evaluation::step, "Index of the step that it is part of.")
      .def_ro("t", &Evaluation::t, "Where the velocity is evaluated; 0 is noise, 1 is data.")
      .def_ro("dt", &Evaluation::dt, "How far the latent moves along the velocity.")
      .def_ro("bend", &Evaluation::bend, "How far it moves along the velocity's slope.")
      .def_ro("arc", &Evaluation::arc, "How far it moves along the velocity's curve.")
      .def_ro("last", &Evaluation::last, "Whether its step ends with it.")
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__", [](const Evaluation& e) { return std::hash<double>{}(e.t); })
      .def("__repr__", &repr_evaluation);
  m.def(
      "plan_evaluations",
      [](const std::vector<Step>& steps, const std::string& solver,
         const std::vector<std::array<double, 3>>& weights) {
        std::vector<Weights> of;
        for (const auto& [velocity, slope, curve] : weights) of.push_back({velocity, slope, curve});
        return plan_evaluations(steps, to_solver("plan_evaluations", solver), of);
      },
      nb::sig(kPlanEvaluations), "steps"_a, "solver"_a = "euler", "weights"_a = nb::make_tuple(),
      "What `denoise` is called for: once a step, twice with 'midpoint' and 'heun'. weights: of "
      "each step, of its velocity, slope and curve in units of h, h^2 and h^3.");
}

}  // namespace flagdit::python
