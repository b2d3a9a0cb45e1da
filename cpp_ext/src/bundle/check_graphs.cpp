// That the graphs of a model fit together: what one makes, another takes. No model is known here:
// what an input of `denoise` is, its first axis says, and the graph that makes it.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "../printable.h"
#include "check.h"
#include "flagdit/error.h"
#include "port_rules.h"

namespace flagdit {
namespace {

using namespace bundle;

// The first of the known inputs, and those of the others that a graph has.
Ports taken(const GraphSpec& graph, const std::vector<std::pair<std::string, Allowed>>& known) {
  Ports ports;
  for (const auto& [name, allowed] : known) {
    const auto same = [&, own = name](const Port& port) { return port.name == own; };
    const bool there = std::any_of(graph.inputs.begin(), graph.inputs.end(), same);
    if (there || name == known[0].first) ports[name] = allowed;
  }
  return ports;
}

void check_condition(const ModelSpec& model) {
  std::set<std::string> long_ones;
  for (const Port& port : model.condition.outputs) {
    const bool timed = port.starts("S");
    const Axes rows(port.axes.begin() + (timed ? 1 : 0), port.axes.end());
    const bool of_rows = !rows.empty() && rows[0] == letter("R");
    const auto known = [](const Axis& axis) { return !is_letter(axis) || axis == letter("T"); };
    if (port.dtype != DType::f32 || !of_rows || !std::all_of(rows.begin() + 1, rows.end(), known)) {
      refuse("graphs.condition.outputs: " + in_quotes(port.name) + " is " + type_name(port.dtype) +
             " " + axes_text(port.axes) +
             "; allowed is float32 (R, ...) or (S, R, ...) with sizes and T");
    }
    if (!timed && port.has("T")) long_ones.insert(port.name);
  }
  for (const auto& [name, value] : model.pads) {
    if (long_ones.count(name) == 0) {
      refuse("pads: " + in_quotes(name) + " is no output (R, ...) of condition with an axis T");
    }
  }
}

void check_place(const GraphSpec& place) {
  const Axis n = letter("N");
  check_ports("graphs.place.inputs", place.inputs,
              taken(place, {{"place", {{DType::i64}, {{n, int64_t{4}}}}},
                            {"extent", {{DType::i64}, {{int64_t{3}}}}},
                            {"ntk", {{DType::f32}, {{int64_t{1}}}}},
                            {"proportional", {{DType::boolean}, {{int64_t{1}}}}},
                            {"phase", {{DType::i64}, {{int64_t{1}}}}}}));
  for (const Port& port : place.outputs) {
    const auto known = [&](const Axis& axis) {
      return !is_letter(axis) || (axis == n && &axis == &port.axes[0]);
    };
    if (!std::all_of(port.axes.begin(), port.axes.end(), known)) {
      refuse("graphs.place.outputs: " + in_quotes(port.name) + " is " + axes_text(port.axes) +
             "; allowed are sizes, and N before them");
    }
  }
}

// The layers that `condition` is told to compute or to skip: a number for each.
Allowed layers_of(const GraphSpec& condition) {
  for (const Port& port : condition.inputs)
    if (port.name == "layers" && port.axes.size() == 1 && !is_letter(port.axes[0]))
      return {{DType::f32}, {port.axes}};
  return {{DType::f32}, {{letter("L")}}};
}

void check_skipped(const ModelSpec& model, const Allowed& layers) {
  const auto* count = std::get_if<int64_t>(&layers.shapes[0][0]);
  for (const int64_t layer : model.guidance.skip_layers) {
    if (count != nullptr && layer < *count) continue;
    refuse(
        "guidance.skip_layers: " + std::to_string(layer) + "; allowed are numbers below " +
        (count == nullptr ? "0: graphs.condition has no input 'layers'" : std::to_string(*count)));
  }
}

// Inputs of `condition` that a text encoder makes: of every token of a text, or of all of them.
std::map<std::string, Axes> features_of(const GraphSpec& condition) {
  std::map<std::string, Axes> features;
  for (const Port& port : condition.inputs) {
    const Axes& axes = port.axes;
    if (port.name == "t" || port.name == "text_mask" || axes.size() < 2 || axes.size() > 3)
      continue;
    const bool middle = axes.size() == 2 || !is_letter(axes[1]) || axes[1] == letter("T");
    if (axes[0] == letter("R") && !is_letter(axes.back()) && middle) features[port.name] = axes;
  }
  if (features.empty()) refuse("graphs.condition.inputs: no text with a width");
  return features;
}

// That an encoder makes the features that no other one makes.
void check_text(const ModelSpec& model, size_t number,
                const std::map<std::string, Axes>& features) {
  const TextSpec& text = model.texts[number];
  const std::string place = "texts." + std::to_string(number);
  const Allowed ids{{DType::i64}, {{letter("R"), letter("T")}}};
  check_ports(place + ".graph.inputs", text.graph.inputs,
              {{"input_ids", ids}, {"attention_mask", ids}});
  std::set<std::string> others;
  for (size_t i = 0; i < model.texts.size(); ++i)
    for (const Port& port : model.texts[i].graph.outputs)
      if (i != number) others.insert(port.name);
  Ports own;
  for (const auto& [name, axes] : features) {
    if (others.count(name) != 0) continue;
    own[name] = {{DType::f32}, {axes}};
    if (text.padding && axes.size() == 3 && axes[1] == Axis(text.max_tokens))
      own[name].shapes.push_back({axes[0], letter("T"), axes[2]});
  }
  check_ports(place + ".graph.outputs", text.graph.outputs, own);
}

void check_made_once(const ModelSpec& model) {
  std::set<std::string> names;
  for (const GraphSpec* graph : {&model.condition, &model.place}) {
    for (const Port& port : graph->outputs) {
      if (!names.insert(port.name).second || port.name == "tokens") {
        refuse("graphs.denoise.inputs: " + in_quotes(port.name) + " is made twice");
      }
    }
  }
}

}  // namespace

// What turns latents into pictures, or back.
static void check_autoencoder(const ModelSpec& model) {
  const Axis b = letter("B");
  const Allowed latents{{DType::f32}, {{b, model.latent.channels, letter("H"), letter("W")}}};
  const Allowed picture{{DType::f32}, {{b, int64_t{3}, letter("Y"), letter("X")}}};
  const auto check = [&](const char* name, const std::optional<GraphSpec>& graph, bool decodes) {
    if (!graph) return;
    const std::string place = std::string("graphs.") + name;
    if (model.latent.space != "vae")
      refuse(place + " is there, and latent.space is 'pixels'; allowed is 'vae'");
    const Ports one{{"latents", latents}}, other{{"picture", picture}};
    check_ports(place + ".inputs", graph->inputs, decodes ? one : other);
    check_ports(place + ".outputs", graph->outputs, decodes ? other : one);
  };
  check("decode", model.decode, true);
  check("encode", model.encode, false);
  check("preview", model.preview, true);
  if (model.latent.space == "pixels" && model.latent.downscale != 1)
    refuse("latent.downscale is " + std::to_string(model.latent.downscale) +
           " and latent.space 'pixels'; allowed is 1");
}

void bundle::check_graphs(const ModelSpec& model) {
  check_autoencoder(model);
  const auto features = features_of(model.condition);
  const Axes row{letter("R"), letter("T")};
  Ports condition = taken(model.condition, {{"t", {{DType::f32}, {{letter("S")}}}},
                                            {"text_mask", {{DType::boolean}, {row}}},
                                            {"layers", layers_of(model.condition)}});
  check_skipped(model, layers_of(model.condition));
  for (const auto& [name, axes] : features) condition[name] = {{DType::f32}, {axes}};
  check_ports("graphs.condition.inputs", model.condition.inputs, condition);
  check_condition(model);
  check_place(model.place);
  check_made_once(model);
  check_denoise("graphs.denoise", model, model.denoise.inputs, model.denoise.outputs);
  for (size_t i = 0; i < model.texts.size(); ++i) check_text(model, i, features);
}

}  // namespace flagdit
