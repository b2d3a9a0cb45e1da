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

#include "sessions.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

using Floats = nb::ndarray<nb::numpy, const float, nb::c_contig, nb::device::cpu>;

// A sampler, and the arrays that it reads.
struct OwnedSampler {
  nb::dict constant, timed, placed;
  std::unique_ptr<Sampler> sampler;
};

void init_sampler(OwnedSampler* self, const nb::object& denoise, const Layout& layout,
                  const Plan& plan, const nb::dict& constant, const nb::dict& timed,
                  const nb::dict& placed, const Floats& guidance, const Floats& start) {
  const std::shared_ptr<Session> session = to_session(denoise);
  if (static_cast<int64_t>(start.size()) % layout.values() != 0 || start.size() == 0)
    throw std::invalid_argument("Sampler: start: got " + std::to_string(start.size()) +
                                " values, allowed a multiple of " +
                                std::to_string(layout.values()));
  if (static_cast<int64_t>(guidance.size()) != layout.patch_values())
    throw std::invalid_argument("Sampler: guidance: got " + std::to_string(guidance.size()) +
                                " values, allowed " + std::to_string(layout.patch_values()));
  const std::vector<Port>& ports = session->ports();
  Conditions conditions{to_bound(ports, constant), to_bound(ports, timed), to_bound(ports, placed)};
  const int64_t samples = static_cast<int64_t>(start.size()) / layout.values();
  int64_t rows = samples;
  for (const Bound& bound : conditions.timed) rows = bound.tensor.shape[1];
  if (rows < samples || rows % samples != 0)
    throw std::invalid_argument("Sampler: timed: got " + std::to_string(rows) +
                                " rows, allowed a multiple of the " + std::to_string(samples) +
                                " samples");
  const std::vector<float> scale(guidance.data(), guidance.data() + guidance.size());
  auto sampler = std::make_unique<Sampler>(session, Extent{layout, samples, rows / samples},
                                           std::make_shared<const Plan>(plan),
                                           std::move(conditions), scale, start.data());
  new (self) OwnedSampler{constant, timed, placed, std::move(sampler)};
}

StepDone step(OwnedSampler& self) {
  if (self.sampler->done()) throw std::invalid_argument("Sampler: step: got none left");
  const nb::gil_scoped_release release;
  return self.sampler->step();
}

// Values of a run in memory of their own: (B, ...) over the layout's sizes.
template <typename T>
struct Made {
  explicit Made(std::vector<size_t> sizes) : shape(std::move(sizes)) {
    size_t count = 1;
    for (const size_t size : shape) count *= size;
    values.resize(count);
  }
  nb::ndarray<nb::numpy, T> array() {
    auto* kept = new std::vector<T>(std::move(values));
    const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return nb::ndarray<nb::numpy, T>(kept->data(), shape.size(), shape.data(), owner);
  }

  std::vector<size_t> shape;
  std::vector<T> values;
};

std::vector<size_t> sizes(std::initializer_list<int64_t> values) {
  return std::vector<size_t>(values.begin(), values.end());
}

nb::ndarray<nb::numpy, float> latents(const OwnedSampler& self, double ahead) {
  const Extent& e = self.sampler->state().extent;
  Made<float> out(
      sizes({e.samples, e.layout.channels, e.layout.frames, e.layout.height, e.layout.width}));
  self.sampler->state().latents(out.values.data(), ahead);
  return out.array();
}

nb::ndarray<nb::numpy, int16_t> ages(const OwnedSampler& self) {
  const Extent& e = self.sampler->state().extent;
  Made<int16_t> out(sizes({e.samples, e.layout.depth(), e.layout.lines(), e.layout.columns()}));
  self.sampler->state().ages(out.values.data());
  return out.array();
}

// Every array that the run keeps, by name, as it is now: they change with the next step.
nb::dict state(const nb::object& self) {
  const Buffers& buffers = nb::cast<const OwnedSampler&>(self).sampler->state();
  nb::dict out;
  const auto show = [&](const std::string& name, const Tensor& tensor) {
    out[name.c_str()] = to_numpy(tensor, self);
  };
  show("token", buffers.token);
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
      show("cache" + at + "." + std::to_string(i), buffers.calls[call].caches[i]);
  }
  return out;
}

void register_layout(nb::module_& m) {
  nb::class_<Layout>(m, "Layout", "The tokens of a picture or a video (layout.h).")
      .def(
          "__init__",
          [](Layout* self, int64_t height, int64_t width, int64_t channels, int64_t patch_height,
             int64_t patch_width, int64_t frames, int64_t patch_frames, bool closes_lines,
             bool closes_frames) {
            new (self) Layout{frames,       height,      width,        channels,     patch_frames,
                              patch_height, patch_width, closes_lines, closes_frames};
            for (const int64_t size :
                 {frames, height, width, channels, patch_frames, patch_height, patch_width})
              if (size < 1 || size > int64_t{1} << 20)
                throw std::invalid_argument("Layout: got " + std::to_string(size) +
                                            ", allowed 1 to 1048576");
            if (frames % patch_frames != 0 || height % patch_height != 0 ||
                width % patch_width != 0)
              throw std::invalid_argument("Layout: got a size that patches do not tile");
          },
          nb::kw_only(), "height"_a, "width"_a, "channels"_a, "patch_height"_a, "patch_width"_a,
          "frames"_a = 1, "patch_frames"_a = 1, "closes_lines"_a = false, "closes_frames"_a = false)
      .def_ro("frames", &Layout::frames)
      .def_ro("height", &Layout::height)
      .def_ro("width", &Layout::width)
      .def_ro("channels", &Layout::channels)
      .def_ro("patch_frames", &Layout::patch_frames)
      .def_ro("patch_height", &Layout::patch_height)
      .def_ro("patch_width", &Layout::patch_width)
      .def_ro("closes_lines", &Layout::closes_lines)
      .def_ro("closes_frames", &Layout::closes_frames)
      .def_prop_ro("depth", &Layout::depth, "Frames of patches.")
      .def_prop_ro("lines", &Layout::lines, "Of patches, in a frame.")
      .def_prop_ro("columns", &Layout::columns)
      .def_prop_ro("patches", &Layout::patches)
      .def_prop_ro("pinned", &Layout::pinned, "Tokens without a latent: in every step's head.")
      .def_prop_ro("tokens", &Layout::tokens)
      .def_prop_ro("patch_values", &Layout::patch_values)
      .def(
          "slots",
          [](const Layout& self) {
            Made<int32_t> out(sizes({self.tokens()}));
            out.values = self.slots();
            return out.array();
          },
          "Token ids (N,) in the first slot order: those without a latent, then the patches.")
      .def(
          "places",
          [](const Layout& self) {
            Made<int64_t> out(sizes({self.tokens(), 4}));
            out.values = self.places();
            return out.array();
          },
          "(N, 4) of each token: index, frame, line and column; -1 for what it has none of.")
      .def("patch_of", &Layout::patch_of, "token"_a,
           "Number of a token's patch; -1 if it carries no latent.")
      .def("__eq__", [](const Layout& self, const Layout& other) { return self == other; });
}

constexpr const char* kInit =
    "def __init__(self, denoise: object, layout: Layout, plan: Plan, *, constant: Mapping[str, "
    "Array], "
    "timed: Mapping[str, Array], placed: Mapping[str, Array], guidance: Array, start: Array) -> "
    "None";

}  // namespace

void register_sampler(nb::module_& m) {
  register_layout(m);
  nb::class_<StepDone>(m, "StepDone", "A step that was done, and the seconds that it took.")
      .def_ro("step", &StepDone::step)
      .def_ro("evaluations", &StepDone::evaluations,
              "Of the velocity; none where the gate says so.")
      .def_ro("branches", &StepDone::branches, "Of guidance that it computed.")
      .def_ro("denoise", &StepDone::denoise, "Seconds of the engine's calls.")
      .def_ro("host", &StepDone::host, "Seconds of the work between them.");
  nb::class_<OwnedSampler>(
      m, "Sampler",
      "The loop, one step at a time: from noise to latents.\n\n"
      "denoise: a Session, or any object with `ports`, `bind(arrays)` and "
      "`run(arrays)`. constant, timed, placed: what its calls take besides the "
      "tokens: over the run (R, ...), an entry an evaluation (E, R, ...), by "
      "token (N, ...). guidance (P,) f32: scale of every value of a patch. start "
      "(B, C, F, H, W) f32.")
      .def("__init__", &init_sampler, nb::sig(kInit), "denoise"_a, "layout"_a, "plan"_a,
           nb::kw_only(), "constant"_a, "timed"_a, "placed"_a, "guidance"_a, "start"_a)
      .def_prop_ro("done", [](const OwnedSampler& self) { return self.sampler->done(); })
      .def("step", &step, "Do the next step.")
      .def("latents", &latents, "ahead"_a = 0.0,
           nb::sig("def latents(self, ahead: float = 0.0) -> Array"),
           "(B, C, F, H, W), moved `ahead` in time along the velocities as they are.")
      .def("ages", &ages, nb::sig("def ages(self) -> Array"),
           "(B, F, H, W) in patches: steps since the velocity of each was computed.")
      .def_prop_ro(
          "state", &state, nb::sig("def state(self) -> dict[str, Array]"),
          "Views of every array that the run keeps, by name; they change with the next step.");
}

}  // namespace flagdit::python
