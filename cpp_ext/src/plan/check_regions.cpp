#include <cmath>
#include <string>
#include <variant>

#include "flagdit/error.h"
#include "flagdit/fields.h"
#include "flagdit/names.h"
#include "flagdit/regions.h"
#include "flagdit/times.h"

namespace flagdit {
namespace {

[[noreturn]] void refuse(const std::string& text) { throw Error(Fault::request, text); }

void check_wholes(const Regions& r) {
  check_whole("warmup", r.budget.warmup, kMaxSteps);
  check_whole("bucket", r.budget.bucket, kMaxTokens);
  if (r.ranking.max_age) check_whole("max_age", *r.ranking.max_age, kMaxSteps);
  check_whole("skip_step", r.budget.skip_step, kMaxTokens);
  check_whole("skip_every", r.budget.skip_every, kMaxSteps);
  if (r.budget.end) check_whole("end", *r.budget.end, kMaxSteps);
}

void check_length(const char* name, size_t values) {
  if (values > static_cast<size_t>(kMaxSteps)) {
    refuse(name + (" has " + std::to_string(values)) + " values; allowed are " +
           std::to_string(kMaxSteps) + " at most, one for each step");
  }
}

void check_length(const char* name, const PerStep& values) {
  if (const auto* list = std::get_if<std::vector<Number>>(&values))
    check_length(name, list->size());
}

void check_lists(const Regions& r) {
  if (r.budget.ratio) check_length("ratio", *r.budget.ratio);
  if (r.budget.resets) check_length("resets", r.budget.resets->size());
  check_length("forecast_kv", r.forecast.caches);
  if (!r.budget.resets) return;
  for (int64_t reset : *r.budget.resets) check_whole("a reset", reset, kMaxSteps);
}

void check_ranges(const Regions& r) {
  const Number &starvation = r.ranking.starvation, &order = r.forecast.order;
  if (!(starvation >= 0 && starvation <= kMaxStarvation)) {
    refuse("starvation is " + text_of(starvation) + "; allowed are 0 to " +
           std::to_string(kMaxStarvation));
  }
  if ((order != 0 && order != 1 && order != 2) ||
      !(r.forecast.clamp > 0 && r.forecast.clamp <= 100)) {
    refuse("forecast is " + text_of(order) + ", forecast_clamp " + text_of(r.forecast.clamp) +
           "; allowed: 0 to 2, and above 0 to 100");
  }
}

void check_ratio_end(const Regions& r) {
  if (!r.budget.ratio_end) return;
  if (!std::holds_alternative<Number>(r.share())) {
    refuse("ratio is a list and there is a ratio_end; give one ratio with it, or the list alone");
  }
  if (!(*r.budget.ratio_end > 0 && *r.budget.ratio_end <= 1)) {
    refuse("ratio_end is " + text_of(*r.budget.ratio_end) + "; allowed are above 0 to 1");
  }
}

// What is told from the change of velocities alone.
void check_of_change(const Regions& r, const char* name, const Number& value, double end) {
  if (!(value >= 0 && value <= end)) {
    refuse(name + (" is " + text_of(value)) + "; allowed are 0 to " + short_text(end));
  }
  const bool high = r.ranking.high_ratio && *r.ranking.high_ratio != 0;
  if (value != 0 && (r.metric() != Metric::change || high)) {
    refuse(name + (" is " + text_of(value)) +
           ", which needs the metric 'change' and no high_ratio; got '" + name_of(r.metric()) +
           "', " + text_of(r.ranking.high_ratio));
  }
}

// Refuses what the published code does not have.
void check_paper(const Regions& r, Solver solver) {
  if (r.forecast.order != 0 || solver != Solver::euler) {
    refuse(std::string("paper mode is Euler without forecast; got ") + name_of(solver) +
           ", forecast " + text_of(r.forecast.order));
  }
  const Number* caches = std::get_if<Number>(&r.forecast.caches);
  if (caches == nullptr ? !std::get<1>(r.forecast.caches).empty() : *caches != 0) {
    refuse("paper mode keeps what it cached as it is; got forecast_kv " +
           text_of(r.forecast.caches));
  }
  if (r.guidance.every != 1) {
    refuse("paper mode runs both branches in every step; got guidance_every " +
           std::to_string(r.guidance.every));
  }
  if (r.rest_text) refuse("paper mode computes the text in every step; leave rest_text out");
  if (r.metric() == Metric::change || r.budget.ratio_end) {
    refuse(std::string("paper mode ranks by std or l2, at one ratio; got ") + name_of(r.metric()) +
           ", ratio_end " + text_of(r.budget.ratio_end));
  }
}

}  // namespace

void check(const Regions& regions, Solver solver) {
  check_wholes(regions);
  check_lists(regions);
  check_ranges(regions);
  check_ratio_end(regions);
  check_of_change(regions, "dilation", regions.ranking.dilation, 1.0);
  check_of_change(regions, "error_budget", regions.budget.error_budget, 10.0);
  check_of_change(regions, "gate", regions.budget.gate, 10.0);
  if (regions.paper()) check_paper(regions, solver);
}

}  // namespace flagdit
