#include "check.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "../printable.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

void refuse_unless(bool known, const std::string& name, const std::string& value,
                   const std::string& allowed) {
  if (known) return;
  throw Error(Fault::bundle, name + " is " + value + "; this flagdit runs " + allowed +
                                 " alone, so it needs a newer one");
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
  one("tokens.multiple", model.tokens.multiple);
  refuse_unless(model.guidance.renormalise == "none", "guidance.renormalise",
                in_quotes(model.guidance.renormalise), "'none'");
  one("phases", static_cast<int64_t>(model.phases.size()));
  char phase[32];
  std::snprintf(phase, sizeof phase, "%g", model.phases[0]);
  refuse_unless(model.phases[0] == 0, "phases.0", phase, "0.0");
  one("texts", std::max<int64_t>(1, static_cast<int64_t>(model.texts.size())));
  for (size_t i = 0; i < model.texts.size(); ++i) {
    const TextSpec& text = model.texts[i];
    const std::string place = "texts." + std::to_string(i);
    refuse_unless(text.text_template == "{}", place + ".template", in_quotes(text.text_template),
                  "'{}'");
    refuse_unless(!text.padding, place + ".padding",
                  text.padding ? std::to_string(*text.padding) : "", "None");
    refuse_unless(!text.negative, place + ".negative", in_quotes(text.negative.value_or("")),
                  "None");
    refuse_unless(!text.truncate, place + ".truncate", "True", "False");
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
    check_graphs(model);
    check_presets(model);
  } catch (const Error& error) {
    throw Error(Fault::bundle, path + ": " + error.what() + "; export the model again");
  }
}

}  // namespace bundle
}  // namespace flagdit
