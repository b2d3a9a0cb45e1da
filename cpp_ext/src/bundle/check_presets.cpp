// That what a bundle was calibrated for can be planned at its sizes.
#include "check.h"
#include "flagdit/error.h"
#include "flagdit/presets.h"

namespace flagdit {

Calibrated ModelSpec::calibrated(const PresetSpec& preset) {
  Calibrated found{preset.name, preset.width,  preset.height,      preset.times,
                   {},          preset.ratios, preset.forecast_kv, 1,
                   {},          preset.cost};
  for (const auto& weights : preset.weights)
    found.weights.push_back({weights[0], weights[1], weights[2]});
  if (preset.coarse) {
    found.factor = preset.coarse->factor;
    found.coarse_times = preset.coarse->times;
  }
  return found;
}

void bundle::check_presets(const ModelSpec& model) {
  for (const PresetSpec& spec : model.presets) {
    try {
      const Preset preset = preset_of(ModelSpec::calibrated(spec));
      const Layout layout = model.layout(spec.width, spec.height);
      plan_of(preset, layout.tokens(), layout.pinned());
      if (!preset.coarse) continue;
      const Layout smaller = coarse_layout(layout, preset.coarse->factor);
      coarse_plan(*preset.coarse, smaller.tokens(), smaller.pinned(), Number(1.0));
    } catch (const Error& error) {
      throw Error(Fault::bundle, "presets, " + spec.name + ": " + error.what());
    }
  }
}

}  // namespace flagdit
