// Region-adaptive sampling (Liu et al. 2025, arXiv 2502.10389): which part of the picture a step
// recomputes. What every field means is in docs/ras.md; names that users know are in fields.h.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "flagdit/advance.h"
#include "flagdit/number.h"
#include "flagdit/plan.h"
#include "flagdit/solver.h"

namespace flagdit {

constexpr int64_t kMaxTokens = 131072;  // the longest sequence of the Lumina-T2X paper
constexpr int64_t kMaxStarvation = 10;  // the paper takes 0.1; at 10, nine drops are more than a
                                        // float can weigh
constexpr int64_t kLevels = 8;  // ratios that a falling one has at most: every number of tokens is
                                // another shape to bind, and another CUDA graph

// How much a step computes.
struct RegionBudget {
  std::optional<PerStep> ratio;                // share of the patches; none is .25, in paper .5
  std::optional<Number> ratio_end;             // that it ends at
  int64_t warmup = 4;                          // dense steps at the start
  std::optional<std::vector<int64_t>> resets;  // later dense ones; negative count from the end
  std::optional<int64_t> end;                  // the last step that may leave patches out
  int64_t skip_step = 0, skip_every = 0;       // a linear schedule (plan.h)
  int64_t bucket = 1;                          // patches are computed in multiples of this
  Number error_budget = 0.0;                   // most error of the cached patches of a step
  Number gate = 0.0;                           // error below which a step makes no call
};

// Which patches a step computes.
struct RegionRanking {
  std::optional<Metric> metric;      // none is `change`, in paper mode `std`
  std::optional<Number> high_ratio;  // share of the cached from the high side; none is 1, of
                                     // `change` 0
  Number starvation = 0.1;
  std::optional<int64_t> max_age;  // none is twice the least that the plan allows
  Number dilation = 0.0;
};

// How what is cached goes on.
struct RegionForecast {
  Number order = 0;
  Number clamp = 0.5;
  bool keep_norm = false;
  PerStep caches = Number(0.0);  // of keys and values: share of the way along their line
};

// Which steps run both branches of guidance.
struct RegionGuidance {
  int64_t every = 1;
  std::optional<int64_t> warmup;
};

struct Regions {
  Mode mode = Mode::corrected;
  RegionBudget budget;
  RegionRanking ranking;
  RegionForecast forecast;
  RegionGuidance guidance;
  bool rest_text = false;  // whether steps that leave patches out leave the text out, too

  bool paper() const { return mode == Mode::paper; }
  // The metric and the ratio, whether they were said or not.
  Metric metric() const;
  PerStep share() const;
  // The ratio of all steps, or of each.
  PerStep ratios(int64_t steps) const;
  // The reset steps of a run, in order; the default leaves out those that fall into the warm-up.
  std::vector<int64_t> resets_of(int64_t steps) const;
  // The share of the way that caches go, of each step. Throws Error if one is out of bounds.
  std::vector<double> dampings(int64_t steps) const;
};

// Everything in every step.
Regions dense_regions();

// Throws Error for options that the plan does not see, or could not tell the mode of.
void check(const Regions& regions, Solver solver);

// Whether each step runs the unconditional branch: the first `warmup` do (none is half of them,
// rounded up), those that are planned `dense`, and of the steps after either each `every`-th; 1 is
// all of them. Throws Error if a number is out of bounds.
std::vector<bool> unconditional_steps(int64_t steps, const RegionGuidance& guidance,
                                      const std::set<int64_t>& dense = {});

}  // namespace flagdit
