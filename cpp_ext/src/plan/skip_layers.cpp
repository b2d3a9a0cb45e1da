#include "flagdit/skip_layers.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "flagdit/error.h"

namespace flagdit {
namespace {

constexpr double kMostScale = 100;
constexpr size_t kMostLayers = 1000;  // in a list
constexpr double kMostLayer = 1e9;

[[noreturn]] void refuse(const std::string& text) { throw Error(Fault::request, text); }

}  // namespace

void check(const SkipLayerGuidance& guidance) {
  if (!(guidance.scale > 0 && guidance.scale <= kMostScale)) {
    refuse("skip_layer_guidance is " + text_of(guidance.scale) +
           "; allowed are above 0 to 100, and 0 for none");
  }
  if (!(guidance.start >= 0 && guidance.start < guidance.stop && guidance.stop <= 1)) {
    refuse("skip_layer_guidance is from " + text_of(guidance.start) + " to " +
           text_of(guidance.stop) +
           " of the steps; allowed are shares of 0 to 1, the second above the first");
  }
  if (!guidance.layers) return;
  const std::vector<int64_t>& layers = *guidance.layers;
  if (layers.empty() || layers.size() > kMostLayers) {
    refuse("skip_layer_guidance has " + std::to_string(layers.size()) +
           " layers; allowed are 1 to " + std::to_string(kMostLayers) + ", such as 7,8,9");
  }
}

void check_layer(const Number& layer) {
  if (layer.whole && layer >= 0 && layer < kMostLayer) return;
  refuse("a layer to skip is " + text_of(layer) + "; allowed are whole numbers from 0");
}

StepRange skip_steps(const SkipLayerGuidance& guidance, int64_t steps) {
  const auto count = static_cast<double>(steps);
  const StepRange range{static_cast<int64_t>(std::floor(count * guidance.start)) + 1,
                        static_cast<int64_t>(std::ceil(count * guidance.stop))};
  if (range.first >= range.end) {
    refuse("skip_layer_guidance is from " + text_of(guidance.start) + " to " +
           text_of(guidance.stop) + " of " + std::to_string(steps) +
           " steps, which is none of them; take more steps, or a later stop");
  }
  return range;
}

std::vector<int64_t> skipped_layers(const SkipLayerGuidance& guidance, int64_t layers,
                                    const std::vector<int64_t>& suiting) {
  if (layers == 0) {
    refuse(
        "skip_layer_guidance is " + text_of(guidance.scale) +
        ", and this bundle's model has no branch that skips layers; leave it out, or, of a model "
        "that can (docs/models.md), export it again");
  }
  const std::vector<int64_t> out = guidance.layers.value_or(suiting);
  if (out.empty()) {
    refuse(
        "skip_layer_guidance has no layers, and the model says none that suit it; give some, "
        "from 0 to " +
        std::to_string(layers - 1));
  }
  for (const int64_t layer : out) {
    if (layer < 0 || layer >= layers) {
      refuse("skip_layer_guidance skips layer " + std::to_string(layer) + "; the model has 0 to " +
             std::to_string(layers - 1));
    }
  }
  return out;
}

}  // namespace flagdit
