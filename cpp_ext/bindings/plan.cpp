#include "flagdit/plan.h"

#include <nanobind/operators.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <cstdio>
#include <functional>
#include <optional>
#include <stdexcept>
#include <utility>

#include "arrays.h"
#include "flagdit/names.h"
#include "flagdit/refresh.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

std::string repr_step(const Step& step) {
  char text[200];
  std::snprintf(
      text, sizeof text, "Step(index=%lld, t=%.6g, t_next=%.6g, active=%lld, dense=%s, high=%lld)",
      static_cast<long long>(step.index), step.t, step.t_next, static_cast<long long>(step.active),
      step.dense ? "True" : "False", static_cast<long long>(step.high));
  return text;
}

using Table = nb::ndarray<nb::numpy, int32_t, nb::ndim<2>, nb::c_contig>;

Table capacity_table(const std::vector<Step>& steps, int64_t tokens, int64_t pinned,
                     int64_t max_age) {
  auto* table = new std::vector<int32_t>(refresh_capacity(steps, tokens, pinned, max_age));
  nb::capsule owner(table, [](void* p) noexcept { delete static_cast<std::vector<int32_t>*>(p); });
  return Table(table->data(), {steps.size(), static_cast<size_t>(max_age) + 1}, owner);
}

void register_step(nb::module_& m) {
  nb::class_<Step>(m, "Step", "One interval of the flow: what `denoise` computes, and when.")
      .def(nb::init<int64_t, double, double, int64_t, bool, int64_t>(), "index"_a, "t"_a,
           "t_next"_a, "active"_a, "dense"_a, "high"_a = 0)
      .def_ro("index", &Step::index)
      .def_ro("t", &Step::t, "Where the velocity is evaluated; 0 is noise, 1 is data.")
      .def_ro("t_next", &Step::t_next, "Where the update lands.")
      .def_ro("active", &Step::active, "Slots `denoise` computes, pinned ones included.")
      .def_ro("dense", &Step::dense, "Whether that is every slot.")
      .def_ro("high", &Step::high, "Of the cached slots, how many are the highest scores.")
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__", [](const Step& step) { return std::hash<int64_t>{}(step.index); })
      .def("__repr__", &repr_step);
}

std::vector<Step> plan_from_times(const std::vector<double>& times, int64_t tokens, int64_t pinned,
                                  std::variant<double, std::vector<double>> ratio, int64_t warmup,
                                  std::vector<int64_t> resets, int64_t bucket,
                                  std::optional<int64_t> end, int64_t skip_step, int64_t skip_every,
                                  double high_ratio, const std::string& mode, int64_t lines,
                                  int64_t head_multiple) {
  return plan_steps(
      times, {tokens, pinned, std::move(ratio), warmup, std::move(resets), bucket, end, skip_step,
              skip_every, high_ratio, to_mode("plan_steps", mode), lines, head_multiple});
}

}  // namespace

Mode to_mode(const std::string& op, const std::string& name) {
  if (const std::optional<Mode> mode = mode_of(name)) return *mode;
  throw std::invalid_argument(op + ": mode: got '" + name + "', allowed 'corrected', 'paper'");
}

void register_plan(nb::module_& m) {
  register_step(m);
  m.def("flow_times", &flow_times, "steps"_a, "shift"_a = 1.0,
        "steps + 1 increasing times from noise (0) to data (1), shifted towards the noise.");
  m.def("plan_steps", &plan_from_times, "times"_a, "tokens"_a, "pinned"_a = 0, "ratio"_a = 1.0,
        "warmup"_a = 4, "resets"_a = std::vector<int64_t>{12, 22}, "bucket"_a = 1,
        "end"_a = nb::none(), "skip_step"_a = 0, "skip_every"_a = 0, "high_ratio"_a = 1.0,
        "mode"_a = "corrected", "lines"_a = 1, "head_multiple"_a = 1,
        "The steps between the times: which are dense, and how many slots the others compute.");
  m.def("least_max_age", &least_max_age, "steps"_a, "tokens"_a, "pinned"_a,
        "The smallest max_age that the plan can promise.");
  m.def("refresh_capacity", &capacity_table, "steps"_a, "tokens"_a, "pinned"_a, "max_age"_a,
        "(steps, max_age + 1): patches that the h steps after step s can compute.");
}

}  // namespace flagdit::python
