// That what a bundle was calibrated for can be planned at its sizes.
#include "check.h"
#include "flagdit/error.h"
#include "flagdit/job.h"

namespace flagdit::bundle {

void check_presets(const ModelSpec& spec) {
  const Model model = model_of(spec);
  for (const Calibrated& found : model.presets) {
    try {
      const Preset preset = preset_of(found);
      const Layout layout = layout_of(model, Size{found.width, found.height});
      check_rest(plan_of(preset, layout.tokens(), layout.pinned()), model);
      if (!preset.coarse) continue;
      const Layout smaller = coarse_layout(layout, preset.coarse->factor, model.downscale);
      coarse_plan(*preset.coarse, smaller.tokens(), smaller.pinned(), Number(1.0));
    } catch (const Error& error) {
      throw Error(Fault::bundle, "presets, " + found.name + ": " + error.what());
    }
  }
}

}  // namespace flagdit::bundle
