#include "flagdit/coarse.h"

#include <algorithm>
#include <string>

#include "flagdit/error.h"

namespace flagdit {
namespace {

[[noreturn]] void refuse(const std::string& text) { throw Error(Fault::request, text); }

std::string by(int64_t width, int64_t height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

int64_t nearest(int64_t length, int64_t cell) {
  const double cells = static_cast<double>(length) / static_cast<double>(cell);
  return std::max(cell, rounded(cells) * cell);
}

std::string fitting(const Layout& layout) {
  std::string factors;
  for (int64_t f = 2; f <= kMostFactor; ++f) {
    if (layout.columns() % f != 0 || layout.lines() % f != 0) continue;
    factors += (factors.empty() ? "" : ", ") + std::to_string(f);
  }
  return factors.empty() ? "no factor divides this size" : "allowed for this size: " + factors;
}

}  // namespace

void check(const Coarse& coarse) {
  if (coarse.factor < 1 || coarse.factor > kMostFactor) {
    refuse("the factor of coarse is " + std::to_string(coarse.factor) + "; allowed are 2 to " +
           std::to_string(kMostFactor) + ", and 1 for none");
  }
  if (!(coarse.until > 0 && coarse.until < 1)) {
    refuse("coarse is until " + text_of(coarse.until) +
           "; allowed are times above 0 (noise) and below 1 (data)");
  }
  if (!(coarse.end > 0 && coarse.end <= 1)) {
    refuse("the end of coarse is " + text_of(coarse.end) +
           "; allowed are times above 0 (noise) to 1 (data)");
  }
}

Plan coarse_plan(const Coarse& coarse, int64_t tokens, int64_t pinned, const Number& shift,
                 const std::vector<double>& phases, StepRange skips) {
  PlanRequest request{dense_regions(), coarse.steps, tokens, pinned, coarse.shift.value_or(shift),
                      Solver::ab2};
  request.span = {0.0, coarse.end};
  request.phases = phases;
  request.skips = skips;
  return make_plan(request);
}

Span full_span(const std::optional<Coarse>& coarse) {
  return coarse ? Span{coarse->until, 1.0} : Span{};
}

Layout coarse_layout(const Layout& layout, int64_t factor, int64_t scale) {
  const int64_t wide = factor * layout.patch_width, high = factor * layout.patch_height;
  if (layout.width % wide != 0 || layout.height % high != 0) {
    refuse("size " + by(layout.width * scale, layout.height * scale) + " over " +
           std::to_string(factor) + " is not made of " +
           by(layout.patch_width * scale, layout.patch_height * scale) + " patches; " +
           fitting(layout) + "; the nearest size is " +
           by(nearest(layout.width, wide) * scale, nearest(layout.height, high) * scale));
  }
  return coarser(layout, factor);
}

}  // namespace flagdit
