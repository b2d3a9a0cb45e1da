// How texts of options are read.
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <map>

#include "../src/printable.h"
#include "flagdit/error.h"
#include "said.h"

namespace flagdit {
namespace {

bool digits(const std::string& text, size_t most) {
  return !text.empty() && text.size() <= most &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool whole(const std::string& text) { return digits(text[0] == '-' ? text.substr(1) : text, 18); }

std::string trimmed(const std::string& text) {
  const char* spaces = " \t\r\n";
  const size_t first = text.find_first_not_of(spaces);
  return first == std::string::npos ? ""
                                    : text.substr(first, text.find_last_not_of(spaces) - first + 1);
}

std::optional<Number> number_of(const std::string& text) {
  if (text.empty() || std::isspace(static_cast<unsigned char>(text[0])) != 0) return std::nullopt;
  if (whole(text)) return Number(static_cast<int64_t>(std::strtoll(text.c_str(), nullptr, 10)));
  if (text.find_first_not_of("0123456789+-.eE") != std::string::npos)
    return std::nullopt;  // nor hexadecimal, nor inf
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (*end != 0 || !std::isfinite(value)) return std::nullopt;
  return Number(value);
}

std::vector<double> numbers_of(const std::string& text) {
  std::vector<double> out;
  for (const std::string& part : split(text, ',')) {
    const auto number = number_of(trimmed(part));
    if (!number) return {};
    out.push_back(*number);
  }
  return out;
}

// Numbers of layers with commas; none if it is something else.
std::optional<std::vector<int64_t>> layers_in(const std::string& text) {
  std::vector<int64_t> out;
  for (const std::string& part : split(text, ',')) {
    const std::string layer = trimmed(part);
    if (!digits(layer, 6)) return std::nullopt;
    out.push_back(std::strtoll(layer.c_str(), nullptr, 10));
  }
  return out;
}

}  // namespace

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == at) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

Number read_number(const std::string& what, const std::string& text) {
  const auto number = number_of(trimmed(text));
  if (!number)
    throw Error(Fault::request, what + " is " + in_quotes(text) + "; allowed are numbers");
  return *number;
}

Value read_value(const std::string& said) {
  const std::string text = trimmed(said);
  static const std::map<std::string, bool> truth = {
      {"true", true}, {"yes", true}, {"on", true}, {"false", false}, {"no", false}, {"off", false}};
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (lower == "none") return std::monostate{};
  if (const auto found = truth.find(lower); found != truth.end()) return found->second;
  if (text.empty()) return std::vector<Number>{};
  if (const auto number = number_of(text)) return *number;
  if (text.find(',') == std::string::npos) return text;
  std::vector<Number> numbers;
  for (const std::string& part : split(text, ',')) {
    const auto number = number_of(trimmed(part));
    if (!number) return text;
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<SkipLayerGuidance> read_skips(const std::string& text) {
  SkipLayerGuidance out;
  Number* const numbers[] = {&out.scale, &out.start, &out.stop};
  const std::vector<std::string> parts = split(text, ':');
  bool good = parts.size() <= 4;
  for (size_t i = 0; good && i < parts.size(); ++i) {
    if (i == 3) {
      out.layers = layers_in(parts[i]);
      good = out.layers.has_value();
      continue;
    }
    const auto number = number_of(trimmed(parts[i]));
    good = number.has_value();
    if (good) *numbers[i] = Number(number->value);
  }
  if (!good)
    throw Error(Fault::request, "skip_layer_guidance " + in_quotes(text) +
                                    " is not SCALE[:START[:STOP[:LAYERS]]]; for instance 2.8, or "
                                    "2.8:0.01:0.2:7,8,9");
  return out.scale == 0 ? std::nullopt : std::optional(out);
}

Coarse read_coarse(const std::string& text) {
  const auto refuse = [&]() {
    throw Error(Fault::request,
                "coarse " + in_quotes(text) +
                    " is not FACTOR[:STEPS[:UNTIL[:SHIFT[:END]]]]; for instance 2, or 2:10:0.4");
  };
  std::vector<std::string> parts = split(text, ':');
  std::transform(parts.begin(), parts.end(), parts.begin(), trimmed);
  Coarse coarse;
  if (parts.size() > 5 || !digits(parts[0], 3)) refuse();
  coarse.factor = std::strtoll(parts[0].c_str(), nullptr, 10);
  const auto real = [&](size_t i) {
    const auto number = number_of(parts[i]);
    if (!number || number->value < 0) refuse();
    return Number(number->value);
  };
  if (parts.size() > 1) {
    if (digits(parts[1], 4)) {
      coarse.steps = static_cast<int64_t>(std::strtoll(parts[1].c_str(), nullptr, 10));
    } else {
      coarse.steps = numbers_of(parts[1]);
      if (std::get<std::vector<double>>(coarse.steps).size() < 2) refuse();
    }
  }
  if (parts.size() > 2) coarse.until = real(2);
  if (parts.size() > 3) coarse.shift = parts[3] == "none" ? std::optional<Number>() : real(3);
  if (parts.size() > 4) coarse.end = real(4);
  check(coarse);
  return coarse;
}

}  // namespace flagdit
