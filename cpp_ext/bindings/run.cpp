#include "flagdit/run.h"

#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "flagdit/checked.h"
#include "flagdit/upsample.h"
#include "samplers.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

using Legs = std::vector<std::tuple<Layout, Plan, double>>;
using TextList = std::vector<std::pair<std::vector<int64_t>, std::string>>;

Stages stages_of(const nb::object& text, const nb::object& condition, const nb::object& place,
                 const nb::object& denoise) {
  return {to_session(text), to_session(condition), to_session(place), to_session(denoise)};
}

void init_run(Run* self, const Stages& stages, const Legs& legs, TextList texts,
              std::vector<size_t> rows, std::vector<uint64_t> seeds, int64_t branches,
              double guidance, std::vector<int64_t> guided, bool proportional,
              std::map<std::string, float> pads, int64_t coarse_factor, double coarse_until) {
  RunOptions options{{},       coarse_factor, coarse_until,      std::move(seeds),
                     branches, guidance,      std::move(guided), std::move(pads)};
  for (const auto& [layout, plan, ntk] : legs)
    options.legs.push_back({layout, plan, {ntk, proportional}});
  Texts all{{}, std::move(rows)};
  for (auto& [ids, label] : texts) all.all.push_back({std::move(ids), std::move(label)});
  new (self) Run(stages, std::move(options), std::move(all));
}

StepDone step(Run& self) {
  const nb::gil_scoped_release release;
  return self.step();
}

using Images = nb::ndarray<nb::numpy, const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;

std::array<int64_t, 4> sizes_of(const Images& images, int64_t factor) {
  check_range("factor", factor, 1, 64);
  std::array<int64_t, 4> out{};
  for (size_t axis = 0; axis < 4; ++axis) out[axis] = static_cast<int64_t>(images.shape(axis));
  return out;
}

std::vector<float> values_of(const Images& images) {
  return {images.data(), images.data() + images.size()};
}

constexpr const char* kInit =
    "def __init__(self, stages: Stages, legs: Sequence[tuple[Layout, Plan, float]], *, "
    "texts: Sequence[tuple[Sequence[int], str]], rows: Sequence[int], seeds: Sequence[int], "
    "branches: int, guidance: float, guided: Sequence[int], "
    "proportional: bool = False, pads: Mapping[str, float] = {}, coarse_factor: int = 1, "
    "coarse_until: float = 0.0) -> None";

}  // namespace

void register_run(nb::module_& m) {
  nb::class_<Stages>(m, "Stages", "The graphs of a model: what a run goes through.")
      .def(
          "__init__",
          [](Stages* self, const nb::object& text, const nb::object& condition,
             const nb::object& place, const nb::object& denoise) {
            new (self) Stages(stages_of(text, condition, place, denoise));
          },
          nb::kw_only(), "text"_a, "condition"_a, "place"_a, "denoise"_a,
          nb::sig("def __init__(self, *, text: object, condition: object, place: object, "
                  "denoise: object) -> None"),
          "Each a Session, or any object with `ports`, `bind(arrays)` and `run(arrays)`.");
  nb::class_<Run>(
      m, "Run",
      "One generation, a step at a time (run.h).\n\n"
      "legs: layout, plan and factor on theta of each size, the full one last. texts: token ids of "
      "each "
      "different text, and what messages call it. rows: which of them each sample of each "
      "branch has, the conditional ones first. guided: channels that guidance touches.")
      .def("__init__", &init_run, nb::sig(kInit), "stages"_a, "legs"_a, nb::kw_only(), "texts"_a,
           "rows"_a, "seeds"_a, "branches"_a, "guidance"_a, "guided"_a, "proportional"_a = false,
           "pads"_a = std::map<std::string, float>(), "coarse_factor"_a = 1, "coarse_until"_a = 0.0)
      .def("step", &step, "Do the next step; the first one encodes the text before.")
      .def_prop_ro("done", &Run::done)
      .def_prop_ro("begun", &Run::begun, "Whether there is a state: from within the first step on.")
      .def_prop_ro("count", &Run::count, "Steps that are done.")
      .def_prop_ro("total", &Run::total, "Steps of all legs.")
      .def_prop_ro("leg", &Run::leg, "That the last step was of.")
      .def_prop_ro("text_tokens", &Run::text_tokens, "Of the longest text.")
      .def_prop_ro(
          "seconds",
          [](const Run& self) {
            const RunSeconds seconds = self.seconds();
            return std::map<std::string, double>{{"text_encoder", seconds.text},
                                                 {"condition", seconds.condition},
                                                 {"allocate", seconds.allocate}};
          },
          "By stage, before and between the steps.")
      .def(
          "latents",
          [](const Run& self, double ahead) { return latents_of(*self.sampler(), ahead); },
          "ahead"_a = 0.0, nb::sig("def latents(self, ahead: float = 0.0) -> NDArray[Any]"),
          "(B, C, F, H, W) of the leg, moved `ahead` in time along the velocities.")
      .def(
          "ages", [](const Run& self) { return ages_of(*self.sampler()); },
          nb::sig("def ages(self) -> NDArray[Any]"),
          "(B, F, H, W) in patches: steps since the velocity of each was computed.")
      .def_prop_ro(
          "state",
          [](const Run& self) {
            // The arrays keep the state of their leg: they must not outlive their memory.
            auto* kept = new std::shared_ptr<const Sampler>(self.sampler());
            const nb::capsule owner(kept, [](void* p) noexcept {
              delete static_cast<std::shared_ptr<const Sampler>*>(p);
            });
            return state_of(**kept, owner);
          },
          nb::sig("def state(self) -> dict[str, NDArray[Any]]"),
          "Views of every array that the leg keeps, by name; steps change them.");
  m.def(
      "upsample",
      [](const Images& images, int64_t factor) {
        const auto [samples, channels, height, width] = sizes_of(images, factor);
        return to_array(upsample(values_of(images), samples * channels, height, width, factor),
                        {samples, channels, height * factor, width * factor});
      },
      "images"_a, "factor"_a, nb::sig("def upsample(images: Array, factor: int) -> NDArray[Any]"),
      "Images (B, C, H, W) at `factor` times their height and width, by Catmull-Rom's cubics.");
  m.def(
      "coarse_noise",
      [](const Images& noise, int64_t factor) {
        const auto [samples, channels, height, width] = sizes_of(noise, factor);
        return to_array(coarse_noise(values_of(noise), samples * channels, height, width, factor),
                        {samples, channels, height / factor, width / factor});
      },
      "noise"_a, "factor"_a, nb::sig("def coarse_noise(noise: Array, factor: int) -> NDArray[Any]"),
      "Noise (B, C, H / factor, W / factor) of a smaller picture: block means, times the factor.");
}

}  // namespace flagdit::python
