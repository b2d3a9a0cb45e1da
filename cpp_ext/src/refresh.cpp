#include "flagdit/refresh.h"

#include <algorithm>
#include <limits>
#include <string>

#include "check.h"

namespace flagdit {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int32_t>::max();

void check_steps(const std::string& op, const std::vector<Step>& steps, int64_t tokens,
                 int64_t pinned) {
  check_range(op + ": tokens", tokens, 1, kNoLimit);
  check_range(op + ": pinned", pinned, 0, tokens);
  for (const Step& step : steps) {
    const std::string what = op + ": active of step " + std::to_string(step.index);
    check_range(what, step.active, step.dense ? tokens : pinned, tokens);
  }
}

// How long the tokens of a window that begins at `first` may have to wait.
int64_t longest_wait(const std::vector<Step>& steps, size_t first, int64_t patches,
                     int64_t pinned) {
  int64_t capacity = 0;
  size_t s = first;
  for (; s < steps.size() && !steps[s].dense; ++s) {
    capacity += steps[s].active - pinned;
    if (capacity >= patches) break;
  }
  return static_cast<int64_t>(s - first);
}

}  // namespace

int64_t least_max_age(const std::vector<Step>& steps, int64_t tokens, int64_t pinned) {
  check_steps("least_max_age", steps, tokens, pinned);
  int64_t least = 0;
  for (size_t s = 0; s < steps.size(); ++s) {
    least = std::max(least, longest_wait(steps, s, tokens - pinned, pinned));
  }
  return least;
}

std::vector<int32_t> refresh_capacity(const std::vector<Step>& steps, int64_t tokens,
                                      int64_t pinned, int64_t max_age) {
  check_steps("refresh_capacity", steps, tokens, pinned);
  const int64_t least = least_max_age(steps, tokens, pinned);
  check_range("refresh_capacity: max_age of this plan", max_age, least, kMaxAge);
  const size_t width = static_cast<size_t>(max_age) + 1;
  std::vector<int32_t> future(steps.size() * width);
  for (size_t s = 0; s < steps.size(); ++s) {
    int64_t capacity = 0;  // only grows, so it stays at kNoLimit
    for (size_t h = 1; h < width; ++h) {
      const bool unlimited = s + h >= steps.size() || steps[s + h].dense;
      capacity = unlimited ? kNoLimit : capacity + steps[s + h].active - pinned;
      capacity = std::min(capacity, kNoLimit);
      future[s * width + h] = static_cast<int32_t>(capacity);
    }
  }
  return future;
}

}  // namespace flagdit
