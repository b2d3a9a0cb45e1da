#include "models.h"

#include <set>
#include <tuple>
#include <utility>

namespace flagdit::bundle {
namespace {

constexpr int64_t kSide = 65536;              // pixels
constexpr int64_t kCount = int64_t{1} << 20;  // widths, heads, tokens
constexpr int64_t kFlops = int64_t{1} << 60;

DType dtype_of(const Value& value) {
  const std::string name =
      value.one_of({"float64", "float32", "float16", "bfloat16", "int64", "int32", "bool"});
  if (name == "float64") return DType::f64;
  if (name == "float32") return DType::f32;
  if (name == "float16") return DType::f16;
  if (name == "bfloat16") return DType::bf16;
  if (name == "int64") return DType::i64;
  return name == "int32" ? DType::i32 : DType::boolean;
}

GraphSpec read_graph(const Value& value) {
  Fields fields(value);
  GraphSpec graph{fields.at("file").file_name(), read_ports(fields.at("inputs"), false),
                  read_ports(fields.at("outputs"), true)};
  if (const auto weights = fields.given("weights")) graph.weights = weights->file_name();
  fields.done();
  return graph;
}

std::pair<int64_t, int64_t> read_size(const Value& value) {
  const auto sides = value.list(2, 2);
  return {sides[0].whole(1, kSide), sides[1].whole(1, kSide)};
}

WeightsSpec read_weights(const Value& value) {
  Fields fields(value);
  WeightsSpec weights{fields.at("file").file_name(), fields.at("sha256").digest(),
                      fields.at("dtype").one_of({"float32", "float16", "bfloat16", "int8"}),
                      fields.at("parameters").whole(1, int64_t{1} << 50)};
  fields.done();
  return weights;
}

LatentSpec read_latent(const Value& value) {
  Fields fields(value);
  LatentSpec latent;
  latent.space = fields.at("space").one_of({"pixels", "vae"});
  latent.channels = fields.at("channels").whole(1, 64);
  std::tie(latent.width, latent.height) = read_size(fields.at("size"));
  if (const auto scale = fields.find("downscale")) latent.downscale = scale->whole(1, 256);
  if (const auto frames = fields.find("frames")) latent.frames = frames->whole(1, kSide);
  fields.done();
  return latent;
}

TokensSpec read_tokens(const Value& value) {
  Fields fields(value);
  const auto patch = fields.at("patch").list(3, 3);
  TokensSpec tokens{patch[0].whole(1, 64), patch[1].whole(1, 64), patch[2].whole(1, 64)};
  for (const Value& item : fields.at("closes").list(0, 2)) {
    (item.one_of({"line", "frame"}) == "line" ? tokens.closes_lines : tokens.closes_frames) = true;
  }
  if (const auto multiple = fields.find("multiple")) tokens.multiple = multiple->whole(1, 1024);
  fields.done();
  return tokens;
}

GuidanceSpec read_guidance(const Value& value) {
  Fields fields(value);
  GuidanceSpec guidance;
  for (const Value& item : fields.at("channels").list())
    guidance.channels.push_back(item.whole(0, 63));
  const auto rows = fields.at("rows").list(2, 2);
  rows[0].one_of({"cond"});
  rows[1].one_of({"uncond"});
  if (const auto scale = fields.find("scale")) guidance.scale = scale->number(0, 100);
  if (const auto renormalise = fields.find("renormalise"))
    guidance.renormalise = renormalise->one_of({"none", "picture", "line"});
  if (const auto layers = fields.find("skip_layers"))
    for (const Value& item : layers->list(0, 1000))
      guidance.skip_layers.push_back(item.whole(0, kCount));
  fields.done();
  return guidance;
}

ShiftSpec read_shift(const Value& value) {
  ShiftSpec shift;
  if (!value.is_object()) {
    shift.fixed = value.number(0.1, 100);
    return shift;
  }
  Fields fields(value);
  const auto tokens = fields.at("tokens").list(2, 2);
  const auto mu = fields.at("mu").numbers(-4, 4, 2, 2);
  fields.done();
  shift.by_tokens = true;
  shift.few = tokens[0].whole(1, kCount);
  shift.many = tokens[1].whole(1, kCount);
  shift.low = mu[0];
  shift.high = mu[1];
  if (shift.few >= shift.many) {
    value.refuse("the tokens are " + std::to_string(shift.few) + " and " +
                 std::to_string(shift.many) + "; the second are more");
  }
  return shift;
}

ShiftSpec read_flow(const Value& value) {
  Fields fields(value);
  const ShiftSpec shift = read_shift(fields.at("shift"));
  fields.done();
  return shift;
}

SizesSpec read_sizes(const Value& value) {
  Fields fields(value);
  const auto count = [&](const char* name) { return fields.at(name).whole(1, kCount); };
  SizesSpec sizes{count("width"), count("hidden"), count("heads"), count("kv_heads"),
                  count("head")};
  if (const auto text = fields.given("text")) sizes.text = text->whole(1, kCount);
  fields.done();
  return sizes;
}

PriceSpec read_price(const Value& value) {
  Fields fields(value);
  const auto flops = [&](const char* name) { return fields.at(name).whole(0, kFlops); };
  const PriceSpec price{flops("token"), flops("pair"), flops("text"), flops("text_pair")};
  fields.done();
  return price;
}

TextSpec read_text_spec(const Value& value) {
  Fields fields(value);
  TextSpec text{read_graph(fields.at("graph")), fields.at("tokenizer").file_name(),
                fields.at("template").text(), fields.at("max_tokens").whole(2, 4096), std::nullopt};
  const Value padding = fields.at("padding");
  if (!padding.is_null()) text.padding = padding.whole(0, int64_t{1} << 24);
  if (const auto negative = fields.given("negative")) text.negative = negative->text();
  if (const auto truncate = fields.find("truncate")) text.truncate = truncate->flag();
  if (const auto dtype = fields.find("dtype"))
    text.dtype = dtype->one_of({"float32", "float16", "bfloat16", "int8", "int4"});
  fields.done();
  return text;
}

// For people: that it is what it should be, and no more.
void check_config(const Value& value) {
  for (const auto& [name, item] : value.entries()) {
    if (item.is_text()) {
      item.text();
    } else if (item.is_number()) {
      item.number();
    } else if (!item.is_null()) {
      item.flag();
    }
  }
}

void read_graphs(const Value& value, ModelSpec& model) {
  Fields fields(value);
  model.condition = read_graph(fields.at("condition"));
  model.place = read_graph(fields.at("place"));
  model.denoise = read_graph(fields.at("denoise"));
  if (const auto decode = fields.given("decode")) model.decode = read_graph(*decode);
  if (const auto encode = fields.given("encode")) model.encode = read_graph(*encode);
  if (const auto preview = fields.given("preview")) model.preview = read_graph(*preview);
  fields.done();
}

void read_presets(const Value& value, ModelSpec& model) {
  std::set<std::tuple<std::string, int64_t, int64_t>> names;
  for (const Value& item : value.list()) {
    PresetSpec preset = read_preset(item);
    if (!names.emplace(preset.name, preset.width, preset.height).second) {
      value.refuse("'" + preset.name + "' for " + std::to_string(preset.width) + "x" +
                   std::to_string(preset.height) + " is there twice or more; allowed is once");
    }
    model.presets.push_back(std::move(preset));
  }
}

void read_people(Fields& fields, ModelSpec& model) {
  fields.at("family").text();
  check_config(fields.at("config"));
  for (const auto& [name, item] : fields.at("licences").entries())
    model.licences[name] = item.text();
  for (const auto& [name, item] : fields.at("exporter").entries()) {
    if (item.is_text()) {
      item.text();
    } else {
      item.whole();
    }
  }
}

}  // namespace

std::vector<Port> read_ports(const Value& value, bool output) {
  std::vector<Port> ports;
  for (const Value& item : value.list()) {
    Fields fields(item);
    Port port{fields.at("name").text(1), dtype_of(fields.at("dtype")), {}, output};
    for (const Value& axis : fields.at("shape").list(0, 8)) {
      if (axis.is_text()) {
        port.axes.emplace_back(axis.text());
      } else {
        port.axes.emplace_back(axis.whole(1, int64_t{1} << 30));
      }
    }
    fields.done();
    ports.push_back(std::move(port));
  }
  return ports;
}

ModelSpec read_model_spec(const Value& value) {
  Fields fields(value);
  ModelSpec model;
  fields.at("schema_version").whole(kSchemaVersion, kSchemaVersion);
  model.name = fields.at("name").text();
  read_people(fields, model);
  model.weights = read_weights(fields.at("weights"));
  model.latent = read_latent(fields.at("latent"));
  model.tokens = read_tokens(fields.at("tokens"));
  model.guidance = read_guidance(fields.at("guidance"));
  model.shift = read_flow(fields.at("flow"));
  const auto phases = fields.find("phases");
  model.phases = phases ? phases->numbers(0, 1, 1, 8) : std::vector<double>{0.0};
  if (const auto power = fields.find("ntk_power")) model.ntk_power = power->number(0, 2);
  model.sizes = read_sizes(fields.at("sizes"));
  model.price = read_price(fields.at("price"));
  for (const Value& item : fields.at("texts").list(0, 4))
    model.texts.push_back(read_text_spec(item));
  if (const auto pads = fields.find("pads")) {
    for (const auto& [name, item] : pads->entries())
      model.pads[name] = static_cast<float>(item.number());
  }
  if (const auto presets = fields.find("presets")) read_presets(*presets, model);
  if (const auto examples = fields.find("examples")) {
    for (const Value& item : examples->list(0, 1000)) model.examples.push_back(item.text(1));
  }
  read_graphs(fields.at("graphs"), model);
  fields.done();
  return model;
}

}  // namespace flagdit::bundle
