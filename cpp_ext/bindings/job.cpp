// Models by their numbers, and jobs.
#include "flagdit/job.h"

#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.h"
#include "options.h"
#include "requests.h"
#include "samplers.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

using Pair = std::pair<int64_t, int64_t>;
using Pictures = nb::ndarray<nb::numpy, const float, nb::shape<-1, 3, -1, -1>, nb::c_contig>;

Layout pattern_of(int64_t channels, std::tuple<int64_t, int64_t, int64_t> patch, bool closes_lines,
                  bool closes_frames, int64_t frames, int64_t multiple) {
  const auto [deep, high, wide] = patch;
  return {frames, 0, 0, channels, deep, high, wide, closes_lines, closes_frames, multiple};
}

// One for all sizes, or two numbers of patches and mu at each.
std::variant<Number, ShiftLine> to_shift(nb::handle shift) {
  if (!nb::isinstance<nb::tuple>(shift)) return to_number("shift", shift);
  const auto [few, many, low, high] = nb::cast<std::tuple<int64_t, int64_t, double, double>>(shift);
  return ShiftLine{few, many, low, high};
}

std::optional<Size> to_size(const std::optional<Pair>& size) {
  if (!size) return std::nullopt;
  return Size{size->first, size->second};
}

void init_model(Model* self, int64_t channels, std::tuple<int64_t, int64_t, int64_t> patch,
                Pair size, const Sizes& sizes, bool closes_lines, bool closes_frames,
                int64_t frames, int64_t downscale, std::vector<int64_t> guided,
                std::map<std::string, float> pads, bool takes_ntk, bool takes_proportional,
                nb::handle shift, nb::handle presets, int64_t head_multiple, int64_t multiple,
                const std::string& renormalise, bool vae, bool encodes, bool decodes,
                double ntk_power, std::vector<double> phases, int64_t layers,
                std::vector<int64_t> skipped) {
  Model model{pattern_of(channels, patch, closes_lines, closes_frames, frames, multiple),
              {size.first, size.second}};
  model.downscale = downscale;
  model.guided = std::move(guided);
  model.layers = layers, model.skipped = std::move(skipped);
  model.pads = std::move(pads);
  model.takes_ntk = takes_ntk, model.takes_proportional = takes_proportional;
  model.ntk_power = ntk_power, model.phases = std::move(phases);
  model.sizes = sizes;
  model.vae = vae, model.encodes = encodes, model.decodes = decodes;
  model.shift = to_shift(shift);
  for (nb::handle spec : nb::iter(presets)) model.presets.push_back(to_calibrated(spec));
  model.head_multiple = head_multiple;
  model.renormalise = renormalise_of(renormalise);
  new (self) Model(std::move(model));
}

nb::list legs_of(const Job& job) {
  nb::list out;
  for (const Leg& leg : job.run.legs) {
    out.append(nb::make_tuple(nb::cast(leg.layout), nb::cast(leg.plan), leg.placing.ntk));
  }
  return out;
}

constexpr const char* kModel =
    "def __init__(self, *, channels: int, patch: tuple[int, int, int], size: tuple[int, int], "
    "sizes: Sizes, closes_lines: bool = False, closes_frames: bool = False, frames: int = 1, "
    "downscale: int = 1, guided: Sequence[int] = (), pads: Mapping[str, float] = {}, takes_ntk: "
    "bool = False, takes_proportional: bool = False, shift: float | tuple[int, int, float, float] "
    "= "
    "1.0, presets: Sequence[object] = (), head_multiple: int = 1, multiple: int = 1, renormalise: "
    "str = 'none', vae: bool = False, encodes: bool = False, decodes: bool = False, ntk_power: "
    "float = 1.0, phases: Sequence[float] = (0.0,), layers: int = 0, skipped: Sequence[int] = ()) "
    "-> None";
constexpr const char* kAdmit =
    "def admit(self, model: Model, precision: str, room: int | None, loaded: int = 0, threads: "
    "int = 1) -> None";

}  // namespace

void register_job(nb::module_& m) {
  register_request(m);
  m.def(
      "head_multiple", &head_multiple, "row_values"_a,
      "What active slots are a multiple of, so that the tails of caches of rows of so many values "
      "begin at multiples of 256 bytes.");
  nb::class_<Model>(m, "Model",
                    "What a manifest says of a model that jobs need: numbers, and no family.")
      .def("__init__", &init_model, nb::sig(kModel), nb::kw_only(), "channels"_a, "patch"_a,
           "size"_a, "sizes"_a, "closes_lines"_a = false, "closes_frames"_a = false, "frames"_a = 1,
           "downscale"_a = 1, "guided"_a = std::vector<int64_t>(),
           "pads"_a = std::map<std::string, float>(), "takes_ntk"_a = false,
           "takes_proportional"_a = false, "shift"_a = 1.0, "presets"_a = nb::make_tuple(),
           "head_multiple"_a = 1, "multiple"_a = 1, "renormalise"_a = "none", "vae"_a = false,
           "encodes"_a = false, "decodes"_a = false, "ntk_power"_a = 1.0,
           "phases"_a = std::vector<double>{0.0}, "layers"_a = 0,
           "skipped"_a = std::vector<int64_t>())
      .def_ro("head_multiple", &Model::head_multiple)
      .def(
          "layout",
          [](const Model& self, std::optional<Pair> size) {
            return layout_of(self, to_size(size));
          },
          "size"_a = nb::none(),
          "Of a picture of a size (width, height), by default its own; refused if that is not made "
          "of patches.")
      .def(
          "shift",
          [](const Model& self, std::optional<Pair> size) {
            return shift_at(self, layout_of(self, to_size(size)).patches()).value;
          },
          "size"_a = nb::none(), "The time shift that suits the model at a size.")
      .def(
          "ntk",
          [](const Model& self, nb::handle said, std::optional<Pair> size) {
            return ntk_factor(self, layout_of(self, to_size(size)), to_value(said));
          },
          "said"_a.none(), "size"_a = nb::none(),
          nb::sig("def ntk(self, said: float | str | None, size: tuple[int, int] | None = None) "
                  "-> float"),
          "The factor of sizes beyond training: 1 for None, else what is said; 'auto' is the area "
          "over the training area, at least 1, to the model's power.")
      .def(
          "phases",
          [](const Model& self, nb::handle said, std::optional<Pair> size) {
            return phases_at(self,
                             ntk_factor(self, layout_of(self, to_size(size)), to_value(said)));
          },
          "ntk"_a.none(), "size"_a = nb::none(),
          nb::sig("def phases(self, ntk: float | str | None, size: tuple[int, int] | None = None) "
                  "-> list[float]"),
          "The times from which on a run with such a factor places its tokens anew.")
      .def(
          "presets",
          [](const Model& self, std::optional<Pair> size) {
            return to_parts(presets_of(self, to_size(size)));
          },
          "size"_a = nb::none(),
          nb::sig("def presets(self, size: tuple[int, int] | None = None) -> dict[str, dict[str, "
                  "Any]]"),
          "Its presets at a size, in parts: its own, and flagdit's.")
      .def(
          "may_rest",
          [](const Model& self, std::optional<Pair> size) {
            return may_rest(self, layout_of(self, to_size(size)).tokens());
          },
          "size"_a = nb::none(),
          nb::sig("def may_rest(self, size: tuple[int, int] | None = None) -> bool"),
          "Whether its text can rest beside a picture of that size.")
      .def_ro("sizes", &Model::sizes);
  nb::class_<Job>(m, "Job", "A request as a model will serve it: planned, nothing left open.")
      .def_prop_ro("legs", &legs_of, nb::sig("def legs(self) -> list[tuple[Layout, Plan, float]]"),
                   "Layout, plan and factor on theta of each size, the full one last.")
      .def(
          "admit",
          [](Job& self, const Model& model, const std::string& precision,
             std::optional<int64_t> present, int64_t loaded,
             int64_t threads) { admit(self, model, {precision, present, loaded, {threads}}); },
          "model"_a, "precision"_a, "room"_a.none(), "loaded"_a = 0, "threads"_a = 1,
          nb::sig(kAdmit),
          "Decode in tiles where the whole does not fit; refuse a job that needs more memory than "
          "there is.")
      .def_prop_ro(
          "tile", [](const Job& self) { return self.run.tile; },
          "Pixels of the side of tiles that are decoded one by one; 0: the whole at once.")
      .def(
          "kept",
          [](const Job& self, const Pictures& pictures) {
            std::vector<float> values(pictures.data(), pictures.data() + pictures.size());
            if (self.run.canvas) self.run.canvas->keep(values);
            return to_array(std::move(values), {static_cast<int64_t>(pictures.shape(0)), 3,
                                                static_cast<int64_t>(pictures.shape(2)),
                                                static_cast<int64_t>(pictures.shape(3))});
          },
          "pictures"_a, nb::sig("def kept(self, pictures: Array) -> NDArray[Any]"),
          "Pictures (B, 3, Y, X) with what stays of the one that was given.")
      .def(
          "replanned",
          [](const Job& self, const Plan& plan) {
            Job job = self;
            job.run.legs.back().plan = plan;
            return job;
          },
          "plan"_a, "The same with another plan at the full size, for experiments.");
  m.def(
      "job_of",
      [](nb::handle asked, const Model& model) {
        Request request = to_request(asked);
        const nb::object said = nb::getattr(asked, "options", nb::none());
        if (!said.is_none()) request.options = to_options(said);
        return job_of(request, to_sampling(asked), model);
      },
      "request"_a, "model"_a, "Plan a request, with the attributes of Request.");
  m.def(
      "resolved_job",
      [](nb::handle asked, const Model& model) {
        Request request = to_request(asked);
        request.options = to_options(nb::getattr(asked, "options"));
        request.guidance = to_number("guidance", nb::getattr(asked, "guidance"));
        return resolve(request, model);
      },
      "request"_a, "model"_a,
      "Plan a request by its options alone, as a program without Python does.");
}

}  // namespace flagdit::python
