#include "flagdit/model.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "../head_multiple.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

constexpr int64_t kMostNtk = 10000;

std::string text_of(const Size& size) {
  return std::to_string(size.width) + "x" + std::to_string(size.height);
}

// The multiple of a side next to a length, at least one.
int64_t nearest(int64_t length, int64_t side) {
  return std::max(side, rounded(static_cast<double>(length) / static_cast<double>(side)) * side);
}

// More than what 64 bits count is said about.
long double tokens_of(const Layout& layout) {
  const auto lines = static_cast<long double>(layout.lines());
  const long double in_line = static_cast<long double>(layout.stride());
  const long double closing = layout.closes_frames ? 1 : 0;
  return static_cast<long double>(layout.depth()) * (lines * in_line + closing) +
         static_cast<long double>(layout.multiple - 1);
}

}  // namespace

Layout sized(const Layout& pattern, const Size& size, int64_t downscale) {
  const Size cell{pattern.patch_width * downscale, pattern.patch_height * downscale};
  if (size.width < cell.width || size.height < cell.height || size.width % cell.width != 0 ||
      size.height % cell.height != 0) {
    const Size near{nearest(size.width, cell.width), nearest(size.height, cell.height)};
    throw Error(Fault::request, "size " + text_of(size) + " is not made of " + text_of(cell) +
                                    " patches; the nearest is " + text_of(near));
  }
  Layout out = pattern;
  out.width = size.width / downscale;
  out.height = size.height / downscale;
  const long double tokens = tokens_of(out);
  if (tokens <= static_cast<long double>(kMaxTokens)) return out;
  char count[64];
  std::snprintf(count, sizeof count, "%.0Lf", tokens);
  throw Error(Fault::request, "size " + text_of(size) + " has " + count + " tokens; allowed are " +
                                  std::to_string(kMaxTokens));
}

Layout layout_of(const Model& model, const std::optional<Size>& size) {
  return sized(model.pattern, size.value_or(model.size), model.downscale);
}

Number shift_at(const Model& model, int64_t patches) {
  if (const Number* fixed = std::get_if<Number>(&model.shift)) return *fixed;
  const auto& line = std::get<ShiftLine>(model.shift);
  const double mu = line.low + (line.high - line.low) * static_cast<double>(patches - line.few) /
                                   static_cast<double>(line.many - line.few);
  return std::min(std::max(std::exp(std::min(mu, 5.0)), 0.1), 100.0);
}

void check_ntk(const Value& ntk) {
  const Number* factor = std::get_if<Number>(&ntk);
  const bool flag = std::holds_alternative<bool>(ntk) && std::get<bool>(ntk);  // 1, to Python
  if (std::holds_alternative<std::monostate>(ntk) || same(ntk, std::string("auto")) || flag ||
      (factor != nullptr && *factor >= 1 && *factor <= kMostNtk)) {
    return;
  }
  throw Error(Fault::request, "ntk is " + text_of(ntk) + "; allowed are 'auto', a factor of 1 to " +
                                  std::to_string(kMostNtk) + ", and None (off)");
}

double ntk_factor(const Model& model, const Layout& layout, const Value& said) {
  check_ntk(said);
  if (const Number* factor = std::get_if<Number>(&said)) return factor->value;
  if (!same(said, std::string("auto"))) return 1.0;
  const auto patches = static_cast<double>(layout.patches());
  const double growth = patches / static_cast<double>(layout_of(model).patches());
  return std::pow(std::max(1.0, growth), model.ntk_power);
}

std::vector<double> phases_at(const Model& model, double ntk) {
  return ntk == 1.0 ? std::vector<double>{0.0} : model.phases;
}

int64_t head_multiple(const std::vector<int64_t>& row_values) {
  constexpr int64_t kLeastBytes = 2;
  int64_t out = 1;  // powers of two: the largest is a multiple of all
  for (const int64_t values : row_values)
    out = std::max(out, aligned_multiple(values % 256 * kLeastBytes));
  return out;
}

bool may_rest(const Model& model, int64_t tokens) {
  return model.sizes.text_cached > 0 && tokens % model.head_multiple == 0;
}

Presets presets_of(const Model& model, const std::optional<Size>& size) {
  const int64_t tokens = layout_of(model, size).tokens();
  const Size of = size.value_or(model.size);
  Presets out = presets_of(model.presets, of.width, of.height);
  for (auto& [name, preset] : out)
    preset.regions.rest_text = preset.regions.rest_text && may_rest(model, tokens);
  return out;
}

}  // namespace flagdit
