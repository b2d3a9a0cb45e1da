// What a sampling run will do, decided before anything runs: pure functions, plain data.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

namespace flagdit {

struct Step {
  int64_t index;
  double t;        // where the velocity is evaluated
  double t_next;   // where the update lands
  int64_t active;  // slots the engine computes, pinned ones included
  bool dense;      // active == tokens

  bool operator==(const Step& other) const;
};

struct PlanOptions {
  int64_t tokens;
  int64_t pinned = 0;                                     // always active, never permuted
  std::variant<double, std::vector<double>> ratio = 1.0;  // for all steps, or one for each
  int64_t warmup = 4;                                     // dense steps at the start
  std::vector<int64_t> resets = {12, 22};  // dense steps that bound the cache's error
  int64_t bucket = 1;                      // active patches are a multiple of this
};

// steps + 1 increasing times from noise (0) to data (1), shifted towards the noise as Lumina-T2X
// does (arXiv 2405.05945): t' = t / (t + m - m t) with m = shift.
std::vector<double> flow_times(int64_t steps, double shift = 1.0);

// One Step for each interval of `times`. A step is dense in the warm-up, at a reset, and where the
// ratio rounds up to all tokens; else active = pinned + ceil(ratio * (tokens - pinned)) patches,
// rounded up to a multiple of the bucket.
std::vector<Step> plan_steps(const std::vector<double>& times, const PlanOptions& options);

}  // namespace flagdit
