// That what a bundle was calibrated for can be planned at its sizes.
#include "check.h"
#include "flagdit/error.h"

namespace flagdit::bundle {

void check_presets(const ModelSpec& model) {
  for (const PresetSpec& preset : model.presets) {
    try {
      model.layout(preset.width, preset.height);
    } catch (const Error& error) {
      throw Error(Fault::bundle, "presets, " + preset.name + ": " + error.what());
    }
  }
}

}  // namespace flagdit::bundle
