// That `denoise`, or an engine of it, takes what the other graphs make, caches what it takes back, and
// gives what a text that may rest adds.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "../printable.h"
#include "check.h"
#include "port_rules.h"

namespace flagdit {
namespace {

using namespace bundle;

const std::vector<DType> kFloats = {DType::f32, DType::f16, DType::bf16};

void check_tails(const std::string& place, const std::vector<Port>& tails) {
  if (tails.empty()) refuse(place + ".inputs: none begins with M, so there is nothing to cache");
  std::set<std::string> kept;
  bool floats = true;
  for (const Port& port : tails) {
    const bool of_rows = port.axes.size() > 1 && port.axes[1] == letter("R");
    if (!of_rows || std::any_of(port.axes.begin() + 2, port.axes.end(), is_letter)) {
      refuse(place + ": " + in_quotes(port.name) + " is " + axes_text(port.axes) +
             "; allowed is (M, R, and sizes");
    }
    kept.insert(type_name(port.dtype));
    floats = floats && std::find(kFloats.begin(), kFloats.end(), port.dtype) != kFloats.end();
  }
  if (kept.size() > 1 || !floats) {
    refuse(place + ": its caches are " +
           listed(kept, " and ", [](const std::string& name) { return name; }) +
           "; allowed is one of " + listed(kFloats, ", ", type_name));
  }
}

bool adds_text(const std::vector<Port>& outputs, const std::string& tail) {
  const std::optional<std::string> name = text_of(tail);
  return name && find(outputs, *name) != nullptr;
}

// Of a text that may rest: what it adds to the caches, (T, R, ...), it adds in all layers, and it is a
// condition (R, T, ...).
void check_rest(const std::string& place, const ModelSpec& model, const std::vector<Port>& tails,
                const std::vector<Port>& inputs, const std::vector<Port>& outputs) {
  std::map<std::string, bool> adds;  // by what is before "_tail"
  for (const Port& tail : tails) {
    const bool own = adds_text(outputs, tail.name);
    const auto [at, fresh] = adds.emplace(tail.name.substr(0, tail.name.find("_tail")), own);
    if (at->second == own) continue;
    refuse(place + ".outputs: what a text adds to the caches " + in_quotes(at->first) +
           " is there of some layers and not of others");
  }
  const auto is_text = [&](const Port& port) {
    const Port* made = find(model.condition.outputs, port.name);
    return made != nullptr && !made->starts("S") && port.axes.size() > 2 &&
           port.axes[1] == letter("T");
  };
  const auto text = std::find_if(inputs.begin(), inputs.end(), is_text);
  if (text == inputs.end())
    refuse(place + ".inputs: none is a text (R, T, ...), and some outputs begin with T");
  const Axes bias{letter("R"), int64_t{1}, int64_t{1}, letter("T")};
  for (const Port& port : inputs)
    if (port.has("T") && !is_text(port) && port.axes != bias)
      refuse(
          place + ".inputs: " + in_quotes(port.name) + " is " + axes_text(port.axes) +
          "; beside outputs that begin with T, allowed with a T are (R, T, ...) over the run and "
          "a bias (R, 1, 1, T)");
  const Axis& length = find(model.condition.outputs, text->name)->axes[1];
  const auto* tokens = std::get_if<int64_t>(&length);
  if (tokens != nullptr && model.sizes.text.value_or(*tokens) != *tokens)
    refuse("sizes.text is " + std::to_string(*model.sizes.text) +
           ", and condition makes texts of " + std::to_string(*tokens) + " tokens");
}

}  // namespace

void check_denoise(const std::string& place, const ModelSpec& model,
                   const std::vector<Port>& inputs, const std::vector<Port>& outputs) {
  const Axis a = letter("A"), r = letter("R"), t = letter("T");
  std::vector<Port> tails;
  std::copy_if(inputs.begin(), inputs.end(), std::back_inserter(tails),
               [](const Port& port) { return port.starts("M"); });
  check_tails(place, tails);
  const Allowed patches{{DType::f32}, {{a, r, model.patch_values()}}};
  Ports in{{"tokens", patches}}, out{{"velocity", patches}};
  for (const Port& port : model.place.outputs) {
    const bool by_token = port.starts("N");
    in[port.name] = {{port.dtype},
                     by_token ? std::vector<Axes>{behind(port.axes, {a}), behind(port.axes, {a, r})}
                              : std::vector<Axes>{port.axes}};
  }
  const bool rests = std::any_of(outputs.begin(), outputs.end(),
                                 [](const Port& port) { return port.starts("T"); });
  for (const Port& port : model.condition.outputs) {
    in[port.name] = {kFloats, {port.starts("S") ? behind(port.axes, {}) : port.axes}};
    // A text whose length is fixed is none when it rests; a bias of its keys, (R, 1, 1, T), is no text.
    const bool fixed = port.axes.size() > 2 && port.axes[0] == r && !is_letter(port.axes[1]);
    if (rests && fixed && !port.has("T")) {
      in[port.name].shapes.push_back(port.axes);
      in[port.name].shapes.back()[1] = t;
    }
  }
  for (const Port& port : tails) {
    in[port.name] = {{port.dtype}, {port.axes}};
    out[head_of(port.name).value_or(port.name)] = {{port.dtype}, {behind(port.axes, {a})}};
    if (adds_text(outputs, port.name))
      out[*text_of(port.name)] = {{port.dtype}, {behind(port.axes, {t})}};
  }
  check_ports(place + ".inputs", inputs, in);
  check_ports(place + ".outputs", outputs, out);
  if (rests) check_rest(place, model, tails, inputs, outputs);
}

}  // namespace flagdit
