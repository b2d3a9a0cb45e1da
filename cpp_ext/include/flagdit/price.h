// What a plan costs before it runs: FLOPs of its evaluations, bytes of what it keeps.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "flagdit/make_plan.h"

namespace flagdit {

// FLOPs (2 per multiply-add) of a row of one evaluation that computes A of N tokens beside T of a
// text: A token + A (N + T) pair + T text + T (N + T) text_pair; of a text that rests the first two.
struct Price {
  double token = 0.0, pair = 0.0, text = 0.0, text_pair = 0.0;
};

// Numbers of a model that prices and the estimate of memory are made of.
struct Sizes {
  Price price;
  int64_t parameters = 0;
  int64_t width = 0, hidden = 0, heads = 0;  // of a layer: of a token, inside its feed-forward part
  int64_t keys = 0;                          // width of the keys of a layer
  int64_t patch = 0;                         // values of a patch
  int64_t place = 0;                         // values that tell a token where it is
  int64_t cached = 0;                        // values that a row caches of a token, in all layers
  int64_t text = 0;                          // tokens of a text, at most
  int64_t text_cached = 0;                   // values that a row caches of a token of the text
  int64_t text_values = 0;                   // that `condition` makes of a token of the text
  int64_t step_values = 0;                   // that it makes of an evaluation
};

// What a run computes at a time. branches: without one that skips layers, which the plan knows of.
struct Batch {
  int64_t samples = 1, branches = 2;
  int64_t text = 32;        // tokens of the text
  int64_t value_bytes = 4;  // of a cached value
};

// Tokens and branches that a step computed.
struct Taken {
  int64_t active, branches;
};

struct Cost {
  std::vector<double> flops;  // of every evaluation
  double dense_flops = 0.0;   // of a dense one at the full size, without a branch that skips layers
  int64_t cache_bytes = 0;

  double total() const;
  // FLOPs of the plan over those of as many dense
  // evaluations: of dense sampling with the same solver.
  double flop_ratio() const;
  // What the plan gains if time follows FLOPs: the bound a run is measured against.
  double expected_speedup() const { return 1 / flop_ratio(); }
  // This one's and that of the coarse steps before it, whose caches are gone by then.
  Cost after(const Cost& coarse) const;
  bool operator==(const Cost& other) const;
};

// Bytes as a whole number; what is beyond 2^59 is said to be that.
int64_t capped(double bytes);

// rests: the text is attended to, and not computed.
double step_flops(const Price& price, int64_t active, int64_t tokens, int64_t rows, int64_t text,
                  bool rests = false);

// taken: what each step computed, where a run may differ from its plan (Budget).
Cost price(const Sizes& sizes, const Plan& plan, const Batch& batch,
           const std::optional<std::vector<Taken>>& taken = std::nullopt);

}  // namespace flagdit
