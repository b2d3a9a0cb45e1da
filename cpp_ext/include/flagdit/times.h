// The times that the steps of a run lie between.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "flagdit/number.h"

namespace flagdit {

constexpr int64_t kMaxSteps = 1000;

// How many steps, or the S + 1 times that they lie between.
using Steps = std::variant<int64_t, std::vector<double>>;

// From noise (0) to data (1), or a part of it where a run begins with a coarse picture.
struct Span {
  double first = 0.0, last = 1.0;

  bool operator==(const Span& other) const;
};

// S + 1 times of the span: of a number of steps, shifted, or as they are given. A number of steps
// is spread evenly over the part that it takes before the shift, so a part of the shifted grid is
// cut out. Throws Error if there are too few or too many, if the shift is out of bounds, or if they
// do not have the ends of the span.
std::vector<double> times_of(const Steps& steps, const Number& shift, const Span& span = {});

// How many there are, whatever their number is.
int64_t count_of(const Steps& steps);

// Throws Error if there are too few or too many.
int64_t checked_count(const Steps& steps);
// Throws Error if it is out of bounds.
Number checked_shift(const Number& shift);

// The time that the shift takes to `t`.
double unshifted(double t, double shift);

}  // namespace flagdit
