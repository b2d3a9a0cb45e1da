#include "check.h"

#include <algorithm>

#include "flagdit/error.h"
#include "flagdit/number.h"

namespace flagdit {
namespace {

void refuse_unless(bool known, const std::string& name, const std::string& value,
                   const std::string& allowed) {
  if (known) return;
  throw Error(Fault::bundle, name + " is " + value + "; this flagdit runs " + allowed +
                                 " alone, so it needs a newer one");
}

void check_template(const std::string& place, const std::string& text) {
  int64_t count = 0;
  for (size_t at = 0; (at = text.find("{}", at)) != std::string::npos; at += 2) ++count;
  if (count == 1) return;
  throw Error(Fault::bundle,
              place + " has {} " + std::to_string(count) + " times; allowed is once");
}

void check_templates(const std::vector<TextSpec>& texts) {
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string place = "texts." + std::to_string(i);
    check_template(place + ".template", texts[i].text_template);
    if (texts[i].negative) check_template(place + ".negative", *texts[i].negative);
  }
}

}  // namespace

namespace bundle {

void check_known(const ModelSpec& model) {
  const auto one = [](const char* name, int64_t value) {
    refuse_unless(value == 1, name, std::to_string(value), "1");
  };
  one("latent.frames", model.latent.frames);
  one("tokens.patch, frames", model.tokens.patch_frames);
  refuse_unless(!model.tokens.closes_frames, "tokens.closes", "'frame'", "'line'");
}

// That they begin with 0, and are in order; `place` is told which it is.
void check_phases(const ModelSpec& model) {
  const std::vector<double>& phases = model.phases;
  if (phases[0] != 0 || !std::is_sorted(phases.begin(), phases.end())) {
    std::string said;
    for (const double phase : phases) said += (said.empty() ? "" : ", ") + short_text(phase);
    throw Error(Fault::bundle,
                "phases are " + said + "; allowed are times that do not fall, from 0");
  }
  const std::vector<Port>& inputs = model.place.inputs;
  const bool told = std::any_of(inputs.begin(), inputs.end(),
                                [](const Port& port) { return port.name == "phase"; });
  if (phases.size() > 1 && !told) {
    throw Error(Fault::bundle, "there are " + std::to_string(phases.size()) +
                                   " phases, and graphs.place has no input 'phase' to tell them");
  }
}

void check_model(const std::string& path, const ModelSpec& model) {
  try {
    check_known(model);
    if (model.sizes.heads % model.sizes.kv_heads != 0) {
      throw Error(Fault::bundle, "sizes.heads is " + std::to_string(model.sizes.heads) +
                                     ", which " + std::to_string(model.sizes.kv_heads) +
                                     " kv heads do not share evenly");
    }
    try {
      layout_of(model_of(model));
    } catch (const Error& error) {
      throw Error(Fault::bundle, std::string("latent.size: ") + error.what());
    }
    check_templates(model.texts);
    check_graphs(model);
    check_phases(model);
    check_presets(model);
  } catch (const Error& error) {
    throw Error(Fault::bundle, path + ": " + error.what() + "; export the model again");
  }
}

}  // namespace bundle
}  // namespace flagdit
