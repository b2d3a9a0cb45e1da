#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "flagdit/make_plan.h"

namespace flagdit {

bool Keeps::operator==(const Keeps& other) const {
  return rate == other.rate && slope == other.slope && curve == other.curve &&
         difference == other.difference && cache_slope == other.cache_slope && known == other.known;
}

double Plan::scored_at(const Step& step) const {
  double latest = -std::numeric_limits<double>::infinity();
  for (const Evaluation& e : evaluations) {
    if (e.step == step.index + 1) latest = std::max(latest, e.t);
  }
  return std::isfinite(latest) ? latest : step.t_next;
}

int64_t Plan::branches(int64_t step) const {
  const auto at = static_cast<size_t>(step);
  return 1 + (unconditional.at(at) ? 1 : 0) + (skips.at(at) ? 1 : 0);
}

bool Plan::skips_layers() const {
  return std::find(skips.begin(), skips.end(), true) != skips.end();
}

bool Plan::runs(int64_t call, int64_t step) const { return call < branches(step); }

bool Plan::precedes_ras(int64_t call, int64_t step) const {
  for (size_t next = static_cast<size_t>(step) + 1; next < steps.size(); ++next) {
    if (runs(call, steps[next].index)) return !steps[next].dense;
  }
  return false;
}

bool Plan::places_anew(int64_t step) const {
  const auto at = static_cast<size_t>(step);
  return at > 0 && phase.at(at) != phase[at - 1];
}

bool Plan::turns(int64_t step) const {
  const auto at = static_cast<size_t>(step);
  return at > 0 && skips.at(at) != skips[at - 1];
}

bool Ranking::operator==(const Ranking& o) const {
  return metric == o.metric && mode == o.mode && starvation == o.starvation &&
         dilation == o.dilation;
}

bool Forecast::operator==(const Forecast& o) const {
  return order == o.order && clamp == o.clamp && keep_norm == o.keep_norm;
}

bool Budget::operator==(const Budget& o) const {
  return error_budget == o.error_budget && gate == o.gate && bucket == o.bucket &&
         head_multiple == o.head_multiple;
}

bool Plan::operator==(const Plan& o) const {
  return steps == o.steps && evaluations == o.evaluations && damping == o.damping &&
         unconditional == o.unconditional && skips == o.skips && phase == o.phase &&
         tokens == o.tokens && pinned == o.pinned && max_age == o.max_age &&
         capacity == o.capacity && capacity_columns == o.capacity_columns && keeps == o.keeps &&
         ranking == o.ranking && forecast == o.forecast && budget == o.budget &&
         rest_text == o.rest_text;
}

}  // namespace flagdit
