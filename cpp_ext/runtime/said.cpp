#include "said.h"

#include "picture.h"
#include "said_table.h"

namespace flagdit {
namespace said {
namespace {

uint64_t seed_in(const Json& value) {
  if (value.is_string())
    return value == "random" ? drawn_seed() : seed_of(value.get<std::string>());
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  refuse_seed(value.dump(-1, ' ', true, Json::error_handler_t::replace));
}

void read_texts(Said& said, Request& request) {
  const Json *one = said.take("prompt"), *several = said.take("prompts");
  if ((one == nullptr) == (several == nullptr))
    refuse("give either one prompt or a list of prompts");
  const Json list = one != nullptr ? Json::array({*one}) : *several;
  if (!list.is_array()) refuse_kind("prompts", list, "a list of texts");
  for (const Json& text : list) {
    if (!text.is_string()) refuse_kind("a prompt", text, "text");
    request.prompts.push_back(text.get<std::string>());
  }
  request.negative = said.text("negative");
}

void read_seeds(Said& said, Request& request) {
  const Json *first = said.take("seed"), *all = said.take("seeds");
  if (all != nullptr) {
    if (!all->is_array()) refuse_kind("seeds", *all, "a list of numbers");
    for (const Json& seed : *all) request.seeds.push_back(seed_in(seed));
    return;
  }
  const uint64_t begin = first == nullptr ? 0 : seed_in(*first);
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    if (begin > UINT64_MAX - i) refuse_seed("18446744073709551616");
    request.seeds.push_back(begin + i);
  }
}

std::optional<Size> read_size(Said& said) {
  const Json* value = said.take("size");
  if (value == nullptr) return std::nullopt;
  if (value->is_array() && value->size() == 2) {
    return Size{whole("size", Said::of("size", (*value)[0])),
                whole("size", Said::of("size", (*value)[1]))};
  }
  const std::string text = value->is_string() ? value->get<std::string>() : value->dump();
  const std::vector<std::string> sides = split(text, 'x');
  const auto good = [](const std::string& side) {
    return !side.empty() && side.size() <= 5 &&
           side.find_first_not_of("0123456789") == std::string::npos;
  };
  if (sides.size() != 2 || !good(sides[0]) || !good(sides[1])) {
    refuse("size " + in_quotes(text) + " is not WIDTHxHEIGHT; for instance 64x64");
  }
  return Size{std::stoll(sides[0]), std::stoll(sides[1])};
}

std::string path_in(Said& said, const std::string& name) {
  if (said.take(name) != nullptr && said.text(name).empty())
    refuse(name + " is empty; give a PNG picture, or leave it out");
  return said.text(name);
}

// Files of PNG: a picture to begin with, and what of it is painted anew.
void read_canvas(Said& said, Request& request) {
  const std::string path = path_in(said, "image"), mask_path = path_in(said, "mask");
  request.strength = said.number("strength");
  if (path.empty()) {
    if (!mask_path.empty()) refuse("there is a mask and no picture that it is of; give an image");
    return;
  }
  const Pixels image = read_png(path);
  Pixels mask;
  if (!mask_path.empty()) {
    mask = read_png(mask_path);
    check_mask(image.width, image.height, mask.width, mask.height);
  }
  request.canvas = std::make_shared<Canvas>(
      canvas_of(image.bytes.data(), mask_path.empty() ? nullptr : mask.bytes.data(), image.width,
                image.height));
}

std::optional<int64_t> read_tile(Said& said) {
  const Json* value = said.take("tile");
  if (value == nullptr) return std::nullopt;
  const std::string text = value->is_string() ? value->get<std::string>() : "";
  if (text == "auto") return std::nullopt;
  return text == "off" ? 0 : whole("tile", *said.number("tile"));
}

Value read_ntk(Said& said) {
  const Json* value = said.take("ntk");
  if (value == nullptr) return {};
  if (!value->is_string()) return Said::of("ntk", *value);
  const std::string text = value->get<std::string>();
  if (text == "off") return {};
  if (text == "auto") return text;
  const Value read = read_value(text);
  if (const auto* number = std::get_if<Number>(&read)) return *number;
  refuse("ntk " + in_quotes(text) + " is none of auto, off, and a factor; for instance --ntk 4");
}

std::optional<SkipLayerGuidance> read_skip_option(Said& said) {
  const Json* value = said.take("skip_layer_guidance");
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return read_skips(value->get<std::string>());
  SkipLayerGuidance out;
  out.scale = Said::of("skip_layer_guidance", *value);
  return out.scale == 0 ? std::nullopt : std::optional(out);
}

}  // namespace
}  // namespace said

Request read_request(const nlohmann::ordered_json& table) {
  using namespace said;
  Said fields(table);
  Request request;
  read_texts(fields, request);
  read_seeds(fields, request);
  request.size = read_size(fields);
  if (const auto guidance = fields.number("guidance")) request.guidance = Number(guidance->value);
  request.skip_layer_guidance = read_skip_option(fields);
  request.ntk = read_ntk(fields);
  read_canvas(fields, request);
  request.tile = read_tile(fields);
  request.proportional = fields.flag("proportional");
  request.options = read_options(fields);
  fields.done();
  return request;
}

}  // namespace flagdit
