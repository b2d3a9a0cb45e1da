#include "flagdit/run.h"

#include <nanobind/stl/map.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "flagdit/autoencoder.h"
#include "flagdit/checked.h"
#include "flagdit/job.h"
#include "flagdit/texts.h"
#include "flagdit/told.h"
#include "flagdit/upsample.h"
#include "samplers.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

Stages stages_of(const std::vector<nb::object>& texts, const nb::object& condition,
                 const nb::object& place, const nb::object& denoise, const nb::object& encode) {
  Stages out{{}, to_session(condition), to_session(place), to_session(denoise)};
  for (const nb::object& text : texts) out.texts.push_back(to_session(text));
  if (!encode.is_none()) out.encode = to_session(encode);
  return out;
}

void init_run(Run* self, const Stages& stages, const Job& job, const Prompts& prompts) {
  new (self) Run(stages, job.run, texts_of(job.request, job.run.branches, prompts));
}

StepDone run_step(Run& self) {
  const nb::gil_scoped_release release;
  return self.step();
}

using Images4 = nb::ndarray<nb::numpy, const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;

std::array<int64_t, 4> sizes_of(const Images4& images, int64_t factor) {
  check_range("factor", factor, 1, 64);
  std::array<int64_t, 4> out{};
  for (size_t axis = 0; axis < 4; ++axis) out[axis] = static_cast<int64_t>(images.shape(axis));
  return out;
}

std::vector<float> values_of(const Images4& images) {
  return {images.data(), images.data() + images.size()};
}

Images images_of(const Images4& images) {
  const auto [samples, channels, height, width] = sizes_of(images, 1);
  return {samples, channels, height, width, values_of(images)};
}

nb::ndarray<nb::numpy, float> to_images(Images images) {
  return to_array(std::move(images.values),
                  {images.samples, images.channels, images.height, images.width});
}

constexpr const char* kReport =
    "def report_of(run: Run, job: Job, *, stages: Stages, model: Model, name: str, digest: str, "
    "bundle: str, steps: Sequence[StepDone], legs: Sequence[int], decode: float = 0.0, "
    "said: bool = True) -> str";

std::string report_to(const Run& run, const Job& job, const Stages& stages, const Model& model,
                      std::string name, std::string digest, std::string bundle,
                      const std::vector<StepDone>& steps, const std::vector<size_t>& legs,
                      double decode, bool said) {
  Origin origin{std::move(name), std::move(digest), std::move(bundle), "", "", "", "", model};
  set_engine(origin, *stages.denoise);
  if (stages.denoise->device() == Device::cuda) origin.gpu = Gpu::here().name;
  return report_of({origin, job, run, steps, legs, decode, said});
}

}  // namespace

void register_run(nb::module_& m) {
  nb::class_<Stages>(m, "Stages", "The graphs of a model: what a run goes through.")
      .def(
          "__init__",
          [](Stages* self, const std::vector<nb::object>& texts, const nb::object& condition,
             const nb::object& place, const nb::object& denoise, const nb::object& encode) {
            new (self) Stages(stages_of(texts, condition, place, denoise, encode));
          },
          nb::kw_only(), "texts"_a, "condition"_a, "place"_a, "denoise"_a, "encode"_a = nb::none(),
          nb::sig(
              "def __init__(self, *, texts: Sequence[object], condition: object, place: object, "
              "denoise: object, encode: object | None = None) -> None"),
          "Each a Session, or any object with `ports`, `bind(arrays)` and `run(arrays)`.");
  nb::class_<Snapshot>(m, "Snapshot", "A run after one of its steps, kept while it goes on.")
      .def(
          "latents",
          [](const Snapshot& self) {
            const Extent& e = self.extent();
            const Layout& l = e.layout;
            std::vector<float> values;
            {
              const nb::gil_scoped_release release;
              values = self.latents();
            }
            return to_array(std::move(values),
                            {e.samples, l.channels, l.frames, l.height, l.width});
          },
          nb::sig("def latents(self) -> NDArray[Any]"),
          "(B, C, F, H, W), moved ahead in time as it was asked for; waits for the step.");
  nb::class_<Run>(
      m, "Run", "One generation, a step at a time (run.h), of a job that is planned and admitted.")
      .def("__init__", &init_run, "stages"_a, "job"_a, "prompts"_a)
      .def("step", &run_step, "Do the next step; the first one encodes the text before.")
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
      .def_prop_ro("step_seconds", &Run::step_seconds, nb::call_guard<nb::gil_scoped_release>(),
                   "Of each step that was done, as a GPU took them, which it waits for; none of a "
                   "CPU.")
      .def_prop_ro(
          "plain", [](const Run& self) { return self.sampler()->plain(); },
          "Why steps are not captured as CUDA graphs; empty if they are.")
      .def(
          "latents",
          [](const Run& self, double ahead) { return latents_of(*self.sampler(), ahead); },
          "ahead"_a = 0.0, nb::sig("def latents(self, ahead: float = 0.0) -> NDArray[Any]"),
          "(B, C, F, H, W) of the leg, moved `ahead` in time along the velocities.")
      .def(
          "ages", [](const Run& self) { return ages_of(*self.sampler()); },
          nb::sig("def ages(self) -> NDArray[Any]"),
          "(B, F, H, W) in patches: steps since the velocity of each was computed.")
      .def(
          "snapshot", [](Run& self, double ahead) { return self.snapshot(ahead); }, "ahead"_a = 0.0,
          nb::call_guard<nb::gil_scoped_release>(),
          "What there is to see now, kept while the run goes on; waits for nothing.")
      .def(
          "all_ages", [](const Run& self) { return all_ages_of(*self.sampler()); },
          nb::sig("def all_ages(self) -> NDArray[Any]"),
          "(S, B, F, H, W) in patches: the same after each of the leg's steps that were done.")
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
  m.attr("TILE") = nb::int_(kTile);
  m.def("report_of", &report_to, "run"_a, "job"_a, nb::kw_only(), "stages"_a, "model"_a, "name"_a,
        "digest"_a, "bundle"_a, "steps"_a, "legs"_a, "decode"_a = 0.0, "said"_a = true,
        nb::sig(kReport),
        "report.json of a run that is done. steps: what each gave; legs: that each was of; decode: "
        "seconds from the last one to the picture; said: whether the job was made of options.");
  m.def(
      "decode",
      [](const nb::object& session, const Images4& latents, int64_t downscale, int64_t tile) {
        return to_images(decode(*to_session(session), images_of(latents), downscale, tile));
      },
      "session"_a, "latents"_a, "downscale"_a, "tile"_a = 0,
      nb::sig("def decode(session: object, latents: Array, downscale: int, tile: int = 0) -> "
              "NDArray[Any]"),
      "Pictures (B, 3, Y, X) in [-1, 1] of latents (B, C, H, W) (autoencoder.h). tile: pixels of "
      "the "
      "side of tiles that are decoded one by one and blended; 0 is the whole at once.");
  m.def(
      "encode",
      [](const nb::object& session, const Images4& pictures, int64_t downscale) {
        return to_images(encode(*to_session(session), images_of(pictures), downscale));
      },
      "session"_a, "pictures"_a, "downscale"_a,
      nb::sig("def encode(session: object, pictures: Array, downscale: int) -> NDArray[Any]"),
      "Latents (B, C, H, W) of pictures (B, 3, Y, X) in [-1, 1].");
  m.def(
      "decode_bytes",
      [](int64_t width, int64_t height) {
        const int64_t tile = tile_of(width, height, kMostWhole);
        const int64_t most = tile == 0 ? std::max(width, height) : tile;
        return decode_bytes(std::min(width, most), std::min(height, most));
      },
      "width"_a, "height"_a,
      "Bytes that a decoder takes of a picture of so many pixels, in tiles if it is large: as "
      "counted.");
  m.def(
      "upsample",
      [](const Images4& images, int64_t factor) {
        const auto [samples, channels, height, width] = sizes_of(images, factor);
        return to_array(upsample(values_of(images), samples * channels, height, width, factor),
                        {samples, channels, height * factor, width * factor});
      },
      "images"_a, "factor"_a, nb::sig("def upsample(images: Array, factor: int) -> NDArray[Any]"),
      "Images (B, C, H, W) at `factor` times their height and width, by Catmull-Rom's cubics.");
  m.def(
      "coarse_noise",
      [](const Images4& noise, int64_t factor) {
        const auto [samples, channels, height, width] = sizes_of(noise, factor);
        return to_array(coarse_noise(values_of(noise), samples * channels, height, width, factor),
                        {samples, channels, height / factor, width / factor});
      },
      "noise"_a, "factor"_a, nb::sig("def coarse_noise(noise: Array, factor: int) -> NDArray[Any]"),
      "Noise (B, C, H / factor, W / factor) of a smaller picture: block means, times the factor.");
}

}  // namespace flagdit::python
