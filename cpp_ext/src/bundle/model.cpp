// The numbers of a manifest that decisions need.
#include <algorithm>

#include "flagdit/manifest.h"

namespace flagdit {
namespace {

constexpr int64_t kTextTokens = 32;  // of a model that comes without a text encoder

// How many numbers a port has of one row, token and time. Sizes are bounded one by one, not their
// product.
double values_of(const Port& port) {
  double values = 1;
  for (const Axis& axis : port.axes) {
    if (const auto* size = std::get_if<int64_t>(&axis)) values *= static_cast<double>(*size);
  }
  return values;
}

template <typename Is>
int64_t values_of(const std::vector<Port>& ports, Is is) {
  double values = 0;
  for (const Port& port : ports) values += is(port) ? values_of(port) : 0;
  return capped(values);
}

Sizes sizes_of(const ModelSpec& spec) {
  const auto flops = [](int64_t count) { return static_cast<double>(count); };
  Sizes sizes;
  sizes.price = {flops(spec.price.token), flops(spec.price.pair), flops(spec.price.text),
                 flops(spec.price.text_pair)};
  sizes.parameters = spec.weights.parameters;
  sizes.width = spec.sizes.width;
  sizes.hidden = spec.sizes.hidden;
  sizes.heads = spec.sizes.heads;
  sizes.keys = spec.sizes.kv_heads * spec.sizes.head;
  sizes.patch = spec.patch_values();
  sizes.place = spec.sizes.head;
  sizes.cached = values_of(spec.denoise.inputs, [](const Port& port) { return port.starts("M"); });
  sizes.text_cached =
      values_of(spec.denoise.outputs, [](const Port& port) { return port.starts("T"); });
  for (const TextSpec& text : spec.texts) sizes.text += text.max_tokens;
  if (spec.texts.empty()) sizes.text = kTextTokens;
  sizes.text = spec.sizes.text.value_or(sizes.text);
  sizes.text_values =
      values_of(spec.condition.outputs, [](const Port& port) { return !port.starts("S"); });
  sizes.step_values =
      values_of(spec.condition.outputs, [](const Port& port) { return port.starts("S"); });
  return sizes;
}

Calibrated calibrated(const PresetSpec& preset) {
  Calibrated found;
  found.name = preset.name;
  found.width = preset.width;
  found.height = preset.height;
  found.times = preset.times;
  for (const auto& w : preset.weights) found.weights.push_back({w[0], w[1], w[2]});
  found.ratios = preset.ratios;
  found.forecast_kv = preset.forecast_kv;
  found.rest_text = preset.rest_text;
  found.cost = preset.cost;
  if (preset.coarse) {
    found.factor = preset.coarse->factor;
    found.coarse_times = preset.coarse->times;
  }
  return found;
}

// How many layers `condition` is told to compute or to skip.
int64_t layers_told(const ModelSpec& spec) {
  for (const Port& port : spec.condition.inputs)
    if (port.name == "layers") return std::get<int64_t>(port.axes.at(0));
  return 0;
}

// Values of a row of each cache of `denoise`; sizes are bounded one by one.
std::vector<int64_t> cached_rows(const ModelSpec& spec) {
  std::vector<int64_t> out;
  for (const Port& port : spec.denoise.inputs) {
    if (!port.tail()) continue;
    int64_t values = 1;  // modulo 256, which is all that counts
    for (const Axis& axis : port.axes)
      if (const auto* size = std::get_if<int64_t>(&axis)) values = values * (*size % 256) % 256;
    out.push_back(values);
  }
  return out;
}

}  // namespace

Model model_of(const ModelSpec& spec) {
  const auto takes = [&](const char* name) {
    return std::any_of(spec.place.inputs.begin(), spec.place.inputs.end(),
                       [name](const Port& port) { return port.name == name; });
  };
  Model model;
  model.pattern.frames = spec.latent.frames;
  model.pattern.channels = spec.latent.channels;
  model.pattern.patch_frames = spec.tokens.patch_frames;
  model.pattern.patch_height = spec.tokens.patch_height;
  model.pattern.patch_width = spec.tokens.patch_width;
  model.pattern.closes_lines = spec.tokens.closes_lines;
  model.pattern.closes_frames = spec.tokens.closes_frames;
  model.pattern.multiple = spec.tokens.multiple;
  model.size = {spec.latent.width, spec.latent.height};
  model.downscale = spec.latent.downscale;
  const ShiftSpec& shift = spec.shift;
  model.shift = Number(shift.fixed);
  if (shift.by_tokens) model.shift = ShiftLine{shift.few, shift.many, shift.low, shift.high};
  model.guidance = Number(spec.guidance.scale);
  model.guided = spec.guidance.channels;
  model.layers = layers_told(spec);
  model.skipped = spec.guidance.skip_layers;
  model.renormalise = renormalise_of(spec.guidance.renormalise);
  model.pads = spec.pads;
  model.vae = spec.latent.space == "vae";
  model.encodes = spec.encode.has_value();
  model.decodes = spec.decode.has_value();
  model.takes_ntk = takes("ntk");
  model.ntk_power = spec.ntk_power;
  model.phases = spec.phases;
  model.takes_proportional = takes("proportional");
  model.sizes = sizes_of(spec);
  model.head_multiple = head_multiple(cached_rows(spec));
  for (const PresetSpec& preset : spec.presets) model.presets.push_back(calibrated(preset));
  return model;
}

}  // namespace flagdit
