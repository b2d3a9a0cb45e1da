// A plan that `flagdit calibrate` found, as a manifest holds it.
#include <cstdio>
#include <utility>

#include "models.h"

namespace flagdit::bundle {
namespace {

std::string brief(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

std::vector<double> read_times(const Value& value) {
  std::vector<double> times = value.numbers(0, 1, 2, 1001);
  for (size_t i = 1; i < times.size(); ++i) {
    if (times[i - 1] < times[i]) continue;
    value.refuse("the times are not in order: " + brief(times[i]) + " is after " +
                 brief(times[i - 1]));
  }
  return times;
}

CoarseSpec read_coarse(const Value& value) {
  Fields fields(value);
  CoarseSpec coarse{fields.at("factor").whole(2, 16), read_times(fields.at("times"))};
  fields.done();
  if (coarse.times[0] != 0)
    value.refuse("the times begin at " + brief(coarse.times[0]) + "; allowed is 0");
  return coarse;
}

std::string read_name(const Value& value) {
  const std::string name = value.text(1);
  bool plain = name.size() <= 32;
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool first = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    plain = plain && (first || (i > 0 && (c == '.' || c == '_' || c == '-')));
  }
  if (!plain) value.refuse("is no name of a preset: a-z, 0-9, and inside . _ -");
  return name;
}

void check_steps(const Value& value, const PresetSpec& preset) {
  const size_t steps = preset.times.size() - 1;
  const auto check = [&](const char* name, size_t count, bool empty) {
    if (count == steps || (empty && count == 0)) return;
    value.refuse(std::string(name) + " are " + std::to_string(count) + ", and there are " +
                 std::to_string(steps) + " steps");
  };
  check("weights", preset.weights.size(), true);
  check("ratios", preset.ratios.size(), false);
  check("forecast_kv", preset.forecast_kv.size(), true);
  if (preset.coarse.has_value() == (preset.times[0] == 0)) {
    value.refuse("the times begin at " + brief(preset.times[0]) +
                 "; allowed is 0, or above it after coarse steps");
  }
  if (preset.times.back() != 1)
    value.refuse("the times end at " + brief(preset.times.back()) + "; allowed is 1");
  if (preset.ratios[0] != 1) {
    value.refuse("the first ratio is " + brief(preset.ratios[0]) +
                 "; allowed is 1: nothing is cached yet");
  }
}

}  // namespace

PresetSpec read_preset(const Value& value) {
  Fields fields(value);
  PresetSpec preset;
  preset.name = read_name(fields.at("name"));
  const auto size = fields.at("size").list(2, 2);
  preset.width = size[0].whole(1, 65536);
  preset.height = size[1].whole(1, 65536);
  preset.times = read_times(fields.at("times"));
  for (const Value& item : fields.at("weights").list())
    preset.weights.push_back(item.numbers(-100, 100, 3, 3));
  preset.ratios = fields.at("ratios").numbers(0, 1, 0, SIZE_MAX, true);
  if (const auto shares = fields.find("forecast_kv")) preset.forecast_kv = shares->numbers(0, 1);
  if (const auto rests = fields.find("rest_text")) preset.rest_text = rests->flag();
  if (const auto coarse = fields.given("coarse")) preset.coarse = read_coarse(*coarse);
  preset.cost = fields.at("cost").number(0, 1e6, true);
  if (const auto psnr = fields.find("psnr")) {
    for (const auto& [name, item] : psnr->entries()) {
      const Json key = name;
      preset.psnr[Value(key, item.where()).one_of({"chosen", "held_out", "dense"})] =
          item.number(-1e3, 1e3);
    }
  }
  fields.done();
  check_steps(value, preset);
  return preset;
}

}  // namespace flagdit::bundle
