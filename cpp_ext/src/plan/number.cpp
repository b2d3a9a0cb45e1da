#include "flagdit/number.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace flagdit {
namespace {

constexpr int kFirstExponent = -4, kLastExponent = 16;  // those of numbers written without one

std::string odd(double value) { return std::isnan(value) ? "nan" : value < 0 ? "-inf" : "inf"; }

// Digits with a point after the first `whole` ones, which may be none, or more than there are.
std::string with_point(const std::string& digits, int whole) {
  if (whole <= 0) return "0." + std::string(static_cast<size_t>(-whole), '0') + digits;
  const auto count = static_cast<size_t>(whole);
  if (digits.size() <= count) return digits + std::string(count - digits.size(), '0') + ".0";
  return digits.substr(0, count) + "." + digits.substr(count);
}

}  // namespace

std::string text_of(double value) {
  if (!std::isfinite(value)) return odd(value);
  char text[40];
  const auto [end, error] =
      std::to_chars(text, text + sizeof text, value, std::chars_format::scientific);
  static_cast<void>(error);  // 40 are enough for any double
  const std::string all(text, end);
  const size_t e = all.find('e');
  const int exponent = std::atoi(all.c_str() + e + 1);
  if (exponent < kFirstExponent || exponent >= kLastExponent) return all;
  const bool negative = all.front() == '-';
  std::string digits;
  for (char c : all.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  return (negative ? "-" : "") + with_point(digits, exponent + 1);
}

std::string text_of(const Number& number) {
  if (!number.whole || !std::isfinite(number.value)) return text_of(number.value);
  char text[400];
  std::snprintf(text, sizeof text, "%.0f", number.value);
  return text;
}

std::string text_of(const std::vector<Number>& numbers) {
  std::string out = "[";
  for (const Number& number : numbers) out += (out.size() > 1 ? ", " : "") + text_of(number);
  return out + "]";
}

std::string text_of(const PerStep& numbers) {
  return std::visit([](const auto& of) { return text_of(of); }, numbers);
}

std::string text_of(const std::optional<Number>& number) {
  return number ? text_of(*number) : "None";
}

std::string short_text(double value) {
  if (!std::isfinite(value)) return odd(value);
  char text[40];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

int64_t rounded(double value) { return static_cast<int64_t>(std::nearbyint(value)); }

}  // namespace flagdit
