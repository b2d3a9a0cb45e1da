// Options, presets and what comes of them, from and to Python's own classes.
#include "flagdit/resolve.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "flagdit/error.h"
#include "flagdit/job.h"
#include "flagdit/model.h"
#include "flagdit/names.h"
#include "options.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

// An attribute of an object, none if it is None.
template <typename Read>
auto maybe(nb::handle object, const char* name, const Read& read)
    -> std::optional<decltype(read(nb::handle()))> {
  const nb::object value = nb::getattr(object, name);
  if (value.is_none()) return std::nullopt;
  return read(value);
}

SaidRatio to_ratio(nb::handle pair) {
  const nb::object last = pair[1];
  SaidRatio out{to_number("ratio", pair[0])};
  if (!last.is_none()) out.last = to_number("ratio_end", last);
  return out;
}

Schedule to_schedule(nb::handle pair) {
  Regions read;
  set_field(read, "skip_step", to_value(pair[0]));
  set_field(read, "skip_every", to_value(pair[1]));
  return {read.budget.skip_step, read.budget.skip_every};
}

Mode to_mode_of_user(nb::handle name) {
  Regions read;
  set_field(read, "mode", to_value(name));
  return read.mode;
}

nb::dict resolve_to(nb::handle options, const nb::dict& presets, nb::handle shift) {
  Presets known;
  for (const auto& [name, preset] : presets) {
    known.emplace_back(nb::cast<std::string>(name), to_preset(preset));
  }
  return to_parts(resolve(to_options(options), known, to_number("shift", shift)));
}

nb::dict presets_with(nb::handle specs, int64_t width, int64_t height) {
  std::vector<Calibrated> found;
  for (nb::handle spec : nb::iter(specs)) found.push_back(to_calibrated(spec));
  return to_parts(presets_of(found, width, height));
}

nb::dict with_ratio_of(nb::handle ras, nb::handle ratio, nb::handle ratio_end, int64_t steps) {
  const SaidRatio said = to_ratio(nb::make_tuple(ratio, ratio_end));
  return to_fields(with_ratio(to_regions(ras), said, steps));
}

void register_parts(nb::module_& m) {
  m.def(
      "falling_fields",
      [](int64_t warmup, nb::handle ratio, nb::handle ratio_end, bool last_dense,
         nb::handle forecast_kv) {
        Regions read;
        set_field(read, "forecast_kv", to_value(forecast_kv));
        return to_fields(
            falling({warmup, to_number("ratio", ratio), to_number("ratio_end", ratio_end),
                     last_dense, read.forecast.caches}));
      },
      nb::sig("def falling_fields(warmup: int, ratio: float, ratio_end: float, last_dense: bool, "
              "forecast_kv: float | Sequence[float]) -> dict[str, Any]"),
      "Fields of RasConfig that is dense at the start, and then falls.");
  m.def("with_ratio_fields", &with_ratio_of, "ras"_a, "ratio"_a, "ratio_end"_a.none(), "steps"_a,
        nb::sig("def with_ratio_fields(ras: object, ratio: float, ratio_end: float | None, steps: "
                "int) -> dict[str, Any]"),
        "Fields of the same plan with another ratio.");
  m.def(
      "resized_fields",
      [](nb::handle ras, int64_t steps, int64_t count) {
        return to_fields(resized(to_regions(ras), steps, count));
      },
      nb::sig("def resized_fields(ras: object, steps: int, count: int) -> dict[str, Any]"),
      "Fields of regions that were planned for `steps` steps, in a run of `count`.");
}

}  // namespace

Solver to_solver_of_user(nb::handle name) {
  const Value value = to_value(name);
  const auto* text = std::get_if<std::string>(&value);
  const std::optional<Solver> solver = text == nullptr ? std::nullopt : solver_of(*text);
  if (solver) return *solver;
  throw Error(Fault::request,
              "solver: got " + text_of(value) + ", allowed 'euler', 'midpoint', 'heun', 'ab2'");
}

Coarse to_coarse(nb::handle coarse) {
  Coarse out;
  const nb::object factor = nb::getattr(coarse, "factor");
  const Value value = to_value(factor);
  const Number* number = std::get_if<Number>(&value);
  if (number == nullptr || !number->whole || number->value < 0 || number->value > kMostFactor) {
    throw Error(Fault::request, "the factor of coarse is " +
                                    nb::cast<std::string>(nb::str(factor)) + "; allowed are 2 to " +
                                    std::to_string(kMostFactor) + ", and 1 for none");
  }
  out.factor = static_cast<int64_t>(number->value);
  out.steps = to_steps(nb::getattr(coarse, "steps"));
  out.shift = maybe(coarse, "shift", [](nb::handle o) { return to_number("shift", o); });
  out.until = to_number("coarse until", nb::getattr(coarse, "until"));
  out.end = to_number("the end of coarse", nb::getattr(coarse, "end"));
  return out;
}

SkipLayerGuidance to_skips(nb::handle skips) {
  SkipLayerGuidance out;
  out.scale = to_number("skip_layer_guidance", nb::getattr(skips, "scale"));
  out.start = to_number("the start of skip_layer_guidance", nb::getattr(skips, "start"));
  out.stop = to_number("the stop of skip_layer_guidance", nb::getattr(skips, "stop"));
  const nb::object layers = nb::getattr(skips, "layers");
  if (layers.is_none()) return out;
  out.layers.emplace();
  if (nb::isinstance<nb::str>(layers) || !nb::isinstance<nb::sequence>(layers))
    throw Error(Fault::request, "the layers of skip_layer_guidance are " +
                                    text_of(to_value(layers)) +
                                    "; allowed is a list of numbers, such as (7, 8, 9)");
  for (nb::handle layer : nb::iter(layers)) {
    const Number number = to_number("a layer to skip", layer);
    check_layer(number);
    out.layers->push_back(static_cast<int64_t>(number.value));
  }
  return out;
}

Preset to_preset(nb::handle preset) {
  Preset out;
  out.steps = to_steps(nb::getattr(preset, "steps"));
  out.solver = to_solver_of_user(nb::getattr(preset, "solver"));
  out.regions = to_regions(nb::getattr(preset, "ras"));
  out.shift = maybe(preset, "shift", [](nb::handle o) { return to_number("shift", o); });
  out.weights = to_weights(nb::getattr(preset, "weights"));
  out.coarse = maybe(preset, "coarse", &to_coarse);
  return out;
}

nb::dict to_parts(const Coarse& coarse) {
  nb::dict out;
  out["factor"] = coarse.factor;
  out["steps"] = to_python(coarse.steps);
  out["shift"] = coarse.shift ? to_python(*coarse.shift) : nb::none();
  out["until"] = to_python(coarse.until);
  out["end"] = to_python(coarse.end);
  return out;
}

nb::dict to_parts(const Preset& preset) {
  nb::list weights;
  for (const Weights& w : preset.weights) {
    weights.append(nb::make_tuple(w.velocity, w.slope, w.curve));
  }
  nb::dict out;
  out["steps"] = to_python(preset.steps);
  out["solver"] = name_of(preset.solver);
  out["ras"] = to_fields(preset.regions);
  out["shift"] = preset.shift ? to_python(*preset.shift) : nb::none();
  out["weights"] = nb::tuple(weights);
  out["coarse"] = preset.coarse ? nb::object(to_parts(*preset.coarse)) : nb::none();
  return out;
}

nb::dict to_parts(const Presets& presets) {
  nb::dict out;
  for (const auto& [name, preset] : presets) out[name.c_str()] = to_parts(preset);
  return out;
}

Calibrated to_calibrated(nb::handle spec) {
  Calibrated out;
  out.name = nb::cast<std::string>(nb::getattr(spec, "name"));
  std::tie(out.width, out.height) =
      nb::cast<std::pair<int64_t, int64_t>>(nb::getattr(spec, "size"));
  out.times = nb::cast<std::vector<double>>(nb::getattr(spec, "times"));
  out.weights = to_weights(nb::getattr(spec, "weights"));
  out.ratios = nb::cast<std::vector<double>>(nb::getattr(spec, "ratios"));
  out.forecast_kv = nb::cast<std::vector<double>>(nb::getattr(spec, "forecast_kv"));
  out.rest_text = nb::cast<bool>(nb::getattr(spec, "rest_text"));
  out.cost = nb::cast<double>(nb::getattr(spec, "cost"));
  const nb::object coarse = nb::getattr(spec, "coarse");
  if (coarse.is_none()) return out;
  out.factor = nb::cast<int64_t>(nb::getattr(coarse, "factor"));
  out.coarse_times = nb::cast<std::vector<double>>(nb::getattr(coarse, "times"));
  return out;
}

Options to_options(nb::handle said) {
  Options out;
  out.preset = maybe(said, "preset", [](nb::handle o) { return to_text(nb::str(o)); });
  out.steps = maybe(said, "steps", &to_steps);
  out.shift = maybe(said, "shift", [](nb::handle o) { return to_number("shift", o); });
  out.solver = maybe(said, "solver", &to_solver_of_user);
  out.regions = maybe(said, "ras", &to_regions);
  out.dense = nb::cast<bool>(nb::getattr(said, "dense"));
  out.mode = to_mode_of_user(nb::getattr(said, "mode"));
  out.ratio = maybe(said, "ratio", &to_ratio);
  out.schedule = maybe(said, "schedule", &to_schedule);
  out.changes = to_changes(nb::getattr(said, "changes"));
  out.coarse = maybe(said, "coarse", &to_coarse);
  return out;
}

void register_resolve(nb::module_& m) {
  m.attr("DEFAULT_PRESET") = kDefaultPreset;
  m.def("resolve", &resolve_to, "options"_a, "presets"_a, "shift"_a,
        nb::sig("def resolve(options: object, presets: dict[str, Any], shift: float) -> dict[str, "
                "Any]"),
        "How a run is sampled, with nothing left open: the parts of a preset. options, presets: "
        "objects with the attributes of Options and Preset.");
  m.def(
      "begins_with", [](nb::handle options) { return begins_with(to_options(options)); },
      "options"_a, "The preset that all that is not said is from; paper mode has none.");
  m.def("presets_of", &presets_with, "specs"_a, "width"_a, "height"_a,
        nb::sig("def presets_of(specs: Sequence[object], width: int, height: int) -> dict[str, "
                "dict[str, Any]]"),
        "All presets of a model at a size, in parts: flagdit's, or in their place its own.");
  m.def(
      "preset_of", [](nb::handle spec) { return to_parts(preset_of(to_calibrated(spec))); },
      "spec"_a, nb::sig("def preset_of(spec: object) -> dict[str, Any]"),
      "A preset of a manifest, in parts.");
  m.def(
      "plan_of",
      [](nb::handle preset, int64_t tokens, int64_t pinned, int64_t head_multiple,
         const std::vector<double>& phases, std::pair<int64_t, int64_t> skips) {
        return plan_of(to_preset(preset), tokens, pinned, head_multiple, phases,
                       {skips.first, skips.second});
      },
      "preset"_a, "tokens"_a, "pinned"_a = 0, "head_multiple"_a = 1,
      "phases"_a = std::vector<double>(), "skips"_a = std::make_pair(0, 0),
      "A preset's steps over tokens of the full size; with no shift of its own, even ones.");
  m.def(
      "check_coarse", [](nb::handle coarse) { check(to_coarse(coarse)); }, "coarse"_a,
      "Refuse a factor or a time that is out of bounds.");
  m.def(
      "check_skips", [](nb::handle skips) { check(to_skips(skips)); }, "skips"_a,
      "Refuse numbers of skip-layer guidance that are out of bounds.");
  m.def(
      "skip_steps",
      [](nb::handle skips, int64_t steps) {
        const StepRange range = skip_steps(to_skips(skips), steps);
        return std::make_pair(range.first, range.end);
      },
      "skips"_a, "steps"_a,
      "The first of the steps that run the branch that skips layers, and the end of them.");
  m.def(
      "skipped_layers",
      [](nb::handle skips, const Model& model) {
        return skipped_layers(to_skips(skips), model.layers, model.skipped);
      },
      "skips"_a, "model"_a, "The layers that it skips in a model.");
  m.def("check_rest", &check_rest, "plan"_a, "model"_a,
        "Refuse a plan whose text is to rest, of a model whose text cannot.");
  m.def(
      "coarse_plan",
      [](nb::handle coarse, int64_t tokens, int64_t pinned, nb::handle shift,
         const std::vector<double>& phases, std::pair<int64_t, int64_t> skips) {
        return coarse_plan(to_coarse(coarse), tokens, pinned, to_number("shift", shift), phases,
                           {skips.first, skips.second});
      },
      "coarse"_a, "tokens"_a, "pinned"_a = 0, "shift"_a = 1.0, "phases"_a = std::vector<double>(),
      "skips"_a = std::make_pair(0, 0),
      nb::sig("def coarse_plan(coarse: object, tokens: int, pinned: int = 0, shift: float = 1.0, "
              "phases: Sequence[float] = (), skips: tuple[int, int] = (0, 0)) -> Plan"),
      "The coarse steps over tokens of the smaller size; `shift` is the run's.");
  m.def("coarse_layout", &coarse_layout, "layout"_a, "factor"_a, "scale"_a = 1,
        "The layout of a picture that is smaller by the factor, refused if that does not tile.");
  register_parts(m);
}

}  // namespace flagdit::python
