#include "flagdit/times.h"

#include <algorithm>
#include <string>

#include "flagdit/error.h"
#include "flagdit/plan.h"

namespace flagdit {
namespace {

// The shifted grid between two times: even before the shift.
std::vector<double> cut(const Span& span, int64_t steps, double shift) {
  const double first = unshifted(span.first, shift), last = unshifted(span.last, shift);
  std::vector<double> times{span.first};
  for (int64_t i = 1; i < steps; ++i) {
    const double t = first + (last - first) * static_cast<double>(i) / static_cast<double>(steps);
    times.push_back(t / (t + shift * (1 - t)));
  }
  times.push_back(span.last);
  return times;
}

[[noreturn]] void refuse_ends(const std::vector<double>& times, const Span& span) {
  const std::string start =
      span.first == 0 ? "0 (noise)"
                      : short_text(span.first) + " (where the coarse picture is noised to)";
  const std::string end = span.last == 1 ? "1 (data)" : short_text(span.last);
  throw Error(Fault::request, "the times run from " + short_text(times.front()) + " to " +
                                  short_text(times.back()) + "; allowed is " + start + " to " +
                                  end);
}

}  // namespace

bool Span::operator==(const Span& other) const {
  return first == other.first && last == other.last;
}

std::vector<double> times_of(const Steps& steps, const Number& shift, const Span& span) {
  const int64_t count = checked_count(steps);
  checked_shift(shift);
  if (std::holds_alternative<int64_t>(steps)) {
    return span == Span{} ? flow_times(count, shift) : cut(span, count, shift);
  }
  const auto& times = std::get<std::vector<double>>(steps);
  if (!(Span{times.front(), times.back()} == span)) refuse_ends(times, span);
  return times;
}

int64_t count_of(const Steps& steps) {
  if (const int64_t* count = std::get_if<int64_t>(&steps)) return *count;
  const auto times = static_cast<int64_t>(std::get<std::vector<double>>(steps).size());
  return std::max<int64_t>(times - 1, 0);
}

int64_t checked_count(const Steps& steps) {
  const int64_t count = count_of(steps);
  if (count < 1 || count > kMaxSteps) {
    throw Error(Fault::request, "steps is " + std::to_string(count) + "; allowed are 1 to " +
                                    std::to_string(kMaxSteps));
  }
  return count;
}

Number checked_shift(const Number& shift) {
  if (!(shift >= 0.1 && shift <= 100)) {  // also catches NaN
    throw Error(Fault::request, "shift is " + text_of(shift) + "; allowed are 0.1 to 100");
  }
  return shift;
}

double unshifted(double t, double shift) { return shift * t / (1 - t + shift * t); }

}  // namespace flagdit
