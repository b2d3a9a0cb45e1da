#include "flagdit/sampler.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "samplers.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

using Floats = nb::ndarray<nb::numpy, const float, nb::c_contig, nb::device::cpu>;

// A sampler, and the arrays that it reads.
struct OwnedSampler {
  Conditions kept;
  std::unique_ptr<Sampler> sampler;
};

void init_sampler(OwnedSampler* self, const nb::object& denoise, const Layout& layout,
                  const Plan& plan, const nb::dict& constant, const nb::dict& timed,
                  const nb::dict& placed, const Floats& guidance, const Floats& start,
                  const nb::dict& later) {
  const std::shared_ptr<Session> session = to_session(denoise);
  if (static_cast<int64_t>(start.size()) % layout.values() != 0 || start.size() == 0)
    throw std::invalid_argument("Sampler: start: got " + std::to_string(start.size()) +
                                " values, allowed a multiple of " +
                                std::to_string(layout.values()));
  const int64_t scales = layout.patch_values() * (plan.skips_layers() ? 2 : 1);
  if (static_cast<int64_t>(guidance.size()) != scales)
    throw std::invalid_argument("Sampler: guidance: got " + std::to_string(guidance.size()) +
                                " values, allowed " + std::to_string(scales));
  const std::vector<Port>& ports = session->ports();
  Conditions conditions{to_bound(ports, constant), to_bound(ports, timed), to_bound(ports, placed)};
  for (const auto& [phase, arrays] : later)
    conditions.later[nb::cast<int64_t>(phase)] = to_bound(ports, nb::cast<nb::dict>(arrays));
  const int64_t samples = static_cast<int64_t>(start.size()) / layout.values();
  int64_t rows = samples;
  for (const Bound& bound : conditions.timed)
    if (bound.tensor.shape.rank > 1) rows = bound.tensor.shape[1];
  if (rows < samples || rows % samples != 0)
    throw std::invalid_argument("Sampler: timed: got " + std::to_string(rows) +
                                " rows, allowed a multiple of the " + std::to_string(samples) +
                                " samples");
  const std::vector<float> scale(guidance.data(), guidance.data() + guidance.size());
  std::unique_ptr<Sampler> sampler;
  {
    const nb::gil_scoped_release release;
    sampler = std::make_unique<Sampler>(session, Extent{layout, samples, rows / samples},
                                        std::make_shared<const Plan>(plan), conditions, scale,
                                        start.data());
  }
  new (self) OwnedSampler{std::move(conditions), std::move(sampler)};
}

StepDone sampler_step(OwnedSampler& self) {
  const nb::gil_scoped_release release;
  return self.sampler->step();
}

constexpr const char* kSamplerInit =
    "def __init__(self, denoise: object, layout: Layout, plan: Plan, *, constant: Mapping[str, "
    "Array], "
    "timed: Mapping[str, Array], placed: Mapping[str, Array], guidance: Array, start: Array, "
    "later: Mapping[int, Mapping[str, Array]] = {}) -> None";

}  // namespace

// What waits for the session's turn lets go of the interpreter: who has the turn may need it, to
// call a session that is written in Python.
nb::ndarray<nb::numpy, float> latents_of(const Sampler& sampler, double ahead) {
  const Extent& e = sampler.state().extent;
  const Layout& l = e.layout;
  std::vector<float> out(static_cast<size_t>(e.samples * l.values()));
  {
    const nb::gil_scoped_release release;
    sampler.latents(out.data(), ahead);
  }
  return to_array(std::move(out), {e.samples, l.channels, l.frames, l.height, l.width});
}

nb::ndarray<nb::numpy, int16_t> ages_of(const Sampler& sampler) {
  const Extent& e = sampler.state().extent;
  const Layout& l = e.layout;
  std::vector<int16_t> out(static_cast<size_t>(e.samples * l.patches()));
  {
    const nb::gil_scoped_release release;
    sampler.ages(out.data());
  }
  return to_array(std::move(out), {e.samples, l.depth(), l.lines(), l.columns()});
}

nb::ndarray<nb::numpy, int16_t> all_ages_of(const Sampler& sampler) {
  const Extent& e = sampler.state().extent;
  const Layout& l = e.layout;
  const auto steps = static_cast<int64_t>(sampler.count());
  std::vector<int16_t> out(static_cast<size_t>(steps * e.samples * l.patches()));
  {
    const nb::gil_scoped_release release;
    sampler.all_ages(sampler.count(), out.data());
  }
  return to_array(std::move(out), {steps, e.samples, l.depth(), l.lines(), l.columns()});
}

namespace {

// Groups of caches that are as wide: see Buffers.
template <typename Show>
void show_forecasts(const std::string& at, const std::vector<ForecastArrays>& groups,
                    const Show& show) {
  int64_t cache = 0;
  for (size_t group = 0; group < groups.size(); ++group) {
    show("anchored" + at + "." + std::to_string(group), groups[group].anchored);
    for (size_t i = 0; i < groups[group].anchors.size(); ++i, ++cache) {
      show("anchor" + at + "." + std::to_string(cache), groups[group].anchors[i]);
      show("cache_slope" + at + "." + std::to_string(cache), groups[group].slopes[i]);
    }
  }
}

}  // namespace

nb::dict state_of(const Sampler& sampler, const nb::object& owner) {
  const Buffers& buffers = sampler.state();
  nb::dict out;
  const auto show = [&](const std::string& name, const Tensor& tensor) {
    out[name.c_str()] = to_numpy(tensor, owner);
  };
  // Where every token is decides what memory is read.
  show("token", buffers.token);
  if (sampler.device() == Device::cpu) nb::object(out["token"]).attr("setflags")("write"_a = false);
  show("latent", buffers.latent);
  show("velocity", buffers.velocity);
  show("tokens", buffers.tokens);
  show("age", buffers.age);
  show("drops", buffers.drops);
  show("score", buffers.score);
  if (buffers.history) {
    show("time", buffers.history->time);
    show("rate", buffers.history->rate);
    if (buffers.history->slope) show("slope", *buffers.history->slope);
    if (buffers.history->curve) show("curve", *buffers.history->curve);
    if (buffers.history->span) show("span", *buffers.history->span);
  }
  if (buffers.difference) show("difference", *buffers.difference);
  for (const Bound& bound : buffers.placed) show(bound.name, bound.tensor);
  for (size_t call = 0; call < buffers.calls.size(); ++call) {
    const std::string at = buffers.calls.size() > 1 ? "." + std::to_string(call) : "";
    show("output" + at, buffers.calls[call].output);
    for (size_t i = 0; i < buffers.calls[call].caches.size(); ++i)
      show("cache" + at + "." + std::to_string(i),
           slots_of(buffers.calls[call].caches[i], 0, buffers.token.shape[0]));
    if (call < buffers.forecast_arrays.size())
      show_forecasts(at, buffers.forecast_arrays[call], show);
  }
  return out;
}

void register_sampler(nb::module_& m) {
  nb::class_<StepDone>(m, "StepDone", "A step that was done, and the seconds that it took.")
      .def_ro("step", &StepDone::step)
      .def_ro("evaluations", &StepDone::evaluations,
              "Of the velocity; none where the gate says so.")
      .def_ro("branches", &StepDone::branches, "Of guidance that it computed.")
      .def_ro("denoise", &StepDone::denoise, "Seconds of calls of `denoise`.")
      .def_ro("host", &StepDone::host, "Seconds of the work between them; on a GPU the host's.")
      .def_ro("launched", &StepDone::launched,
              "Nodes of the graph that it was launched as; 0: piece by piece.");
  nb::class_<OwnedSampler>(
      m, "Sampler",
      "The loop, one step at a time: from noise to latents.\n\n"
      "denoise: a Session, or any object with `ports`, `bind(arrays)` and "
      "`run(arrays)`. constant, timed, placed: what its calls take besides the "
      "tokens: over the run (R, ...), an entry an evaluation (E, R, ...), by "
      "token (N, ...). guidance (P,) f32: scale of every value of a patch; of a plan that skips "
      "layers (2, P), with that of the branch which does. start "
      "(B, C, F, H, W) f32. later: by phase of the plan after the first, what takes the place of "
      "`placed` and of constants.")
      .def("__init__", &init_sampler, nb::sig(kSamplerInit), "denoise"_a, "layout"_a, "plan"_a,
           nb::kw_only(), "constant"_a, "timed"_a, "placed"_a, "guidance"_a, "start"_a,
           "later"_a = nb::dict())
      .def_prop_ro("done", [](const OwnedSampler& self) { return self.sampler->done(); })
      .def("step", &sampler_step, "Do the next step.")
      .def(
          "latents",
          [](const OwnedSampler& self, double ahead) { return latents_of(*self.sampler, ahead); },
          "ahead"_a = 0.0, nb::sig("def latents(self, ahead: float = 0.0) -> NDArray[Any]"),
          "(B, C, F, H, W), moved `ahead` in time along the velocities as they are.")
      .def(
          "ages", [](const OwnedSampler& self) { return ages_of(*self.sampler); },
          nb::sig("def ages(self) -> NDArray[Any]"),
          "(B, F, H, W) in patches: steps since the velocity of each was computed.")
      .def_prop_ro(
          "seconds", [](const OwnedSampler& self) { return self.sampler->seconds(); },
          nb::call_guard<nb::gil_scoped_release>(),
          "Of each step that was done, as a GPU took them; none of a CPU.")
      .def_prop_ro(
          "plain", [](const OwnedSampler& self) { return self.sampler->plain(); },
          "Why steps are not captured as CUDA graphs; empty if they are.")
      .def_prop_ro(
          "state",
          [](const nb::object& self) {
            return state_of(*nb::cast<const OwnedSampler&>(self).sampler, self);
          },
          nb::sig("def state(self) -> dict[str, NDArray[Any]]"),
          "Views of every array that the run keeps, by name; they change with the next step.");
}

}  // namespace flagdit::python
