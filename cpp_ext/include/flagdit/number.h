// Numbers as users write them, and as messages quote them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

namespace flagdit {

// A real number that remembers whether it was written as a whole one: 2 is not quoted as 2.0.
struct Number {
  double value = 0.0;
  bool whole = false;

  Number() = default;
  template <typename T, typename = std::enable_if_t<std::is_arithmetic_v<T>>>
  Number(T value)  // NOLINT: a number is a Number
      : value(static_cast<double>(value)), whole(std::is_integral_v<T>) {}
  operator double() const { return value; }  // NOLINT
};

// One for all steps, or one for each.
using PerStep = std::variant<Number, std::vector<Number>>;

// The shortest digits that read as the same double, as Python and JSON write them: 0.1, 2.0, 1e-05,
// 1e+16, inf, nan.
std::string text_of(double value);
std::string text_of(const Number& number);
std::string text_of(const std::vector<Number>& numbers);  // [0.0, 0.5]
std::string text_of(const PerStep& numbers);
std::string text_of(const std::optional<Number>& number);  // None if there is none

// Six digits at most, without zeros at the end: %g.
std::string short_text(double value);

// The nearest whole number, of two the even one.
int64_t rounded(double value);

}  // namespace flagdit
