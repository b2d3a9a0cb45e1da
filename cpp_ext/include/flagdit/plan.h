// What a sampling run will do, decided before anything runs: pure functions, plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

namespace flagdit {

// Whose choices a run makes: those of the published code (arXiv 2502.10389) step for step, or ours,
// which differ where it has faults. docs/ras.md lists them all.
enum class Mode { corrected, paper };

struct Step {
  int64_t index;
  double t;          // where the velocity is evaluated
  double t_next;     // where the update lands
  int64_t active;    // slots `denoise` computes, pinned ones included
  bool dense;        // active == tokens
  int64_t high = 0;  // of the cached slots, how many come from the high side of the score

  bool operator==(const Step& other) const;
};

struct PlanOptions {
  int64_t tokens;
  int64_t pinned = 0;                                     // always active, never permuted
  std::variant<double, std::vector<double>> ratio = 1.0;  // for all steps, or one for each
  int64_t warmup = 4;                                     // dense steps at the start
  std::vector<int64_t> resets = {12, 22};  // dense steps that bound the cache's error
  int64_t bucket = 1;                      // active patches are a multiple of this
  std::optional<int64_t> end;              // the last step that may cache; later ones are dense
  int64_t skip_step = 0;    // the linear schedule: this many patches more are cached ...
  int64_t skip_every = 0;   // ... every so many steps, the ratio being its middle; 0 is static
  double high_ratio = 1.0;  // share of the cached patches from the high side of the score
  Mode mode = Mode::corrected;
  int64_t lines = 1;          // of patches; only paper mode's rounding depends on them
  int64_t head_multiple = 1;  // the active slots of a step are a multiple of this, or all of them
};

// steps + 1 increasing times from noise (0) to data (1), shifted towards the noise as Lumina-T2X
// does (arXiv 2405.05945): t' = t / (t + m - m t) with m = shift.
std::vector<double> flow_times(int64_t steps, double shift = 1.0);

// One Step for each interval of `times`. A step is dense in the warm-up, at a reset, after `end`,
// and where nothing is left to cache. Else, of P = tokens - pinned patches, step i of n caches
//   skip = P - ceil(ratio P) + skip_step (i / skip_every - (n + warmup) / skip_every / 2)
// in integer division; what stays active is rounded up to a multiple of the bucket, and
// round(skip high_ratio) of the cached ones come from the high side. In paper mode the first term
// is int(((1 - ratio) lines) columns), a linear schedule is floored to a multiple of 64, and the
// two sides are int(skip (1 - high_ratio)) and int(skip high_ratio), which may lose a patch between
// them. Last, in both modes, the active slots, pinned ones included, are rounded up to a multiple of
// head_multiple, at the cost of the low side first.
std::vector<Step> plan_steps(const std::vector<double>& times, const PlanOptions& options);

}  // namespace flagdit
