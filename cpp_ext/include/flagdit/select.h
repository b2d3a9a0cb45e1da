// Chooses the tokens that the next step computes, as swaps across the border of its head.
//
// Cached are N - active tokens: `high` of them from the high side of the score (the paper caches
// the highest: background has the larger deviation), the rest from the low side. A token that was
// cached `drops` times is harder to cache again on either side:
//   high side, largest first:  score * exp(-starvation * drops)
//   low side, smallest first:  score * exp(+starvation * drops)
// The published code multiplies both by exp(+starvation * drops), which on the high side caches the
// same tokens for ever; paper mode does so. Tokens that the promise of refresh.h needs now are
// never cached: oldest first, then the smallest on the high side. Equal scores are ordered by token
// id, so the choice depends on the tokens, not on the slots they sit in. A NaN score is cached
// last.
#pragma once

#include <cstdint>
#include <optional>

#include "flagdit/refresh.h"
#include "flagdit/tensor.h"

namespace flagdit {

struct SelectArgs {
  Tensor score;  // (N, B) f32
  Tensor age;    // (N, B) i32
  Tensor drops;  // (N, B) i32
  Tensor token;  // (N, B) i32, distinct in a sample
  Tensor
      future;  // (max_age + 1,) i32, the step's entry of refresh_capacity; unread if max_age is -1
  Tensor swaps;      // (B, N, 2) i32 out: [b, :counts[b]] are pairs (head slot, tail slot)
  Tensor counts;     // (B,) i32 out
  Tensor codes;      // (B, N) u64 scratch
  int64_t active;    // slots of the next head
  int64_t pinned;    // slots 0 .. pinned-1 stay active
  float starvation;  // >= 0; the paper's k, 0.1
  int64_t high;      // of the cached slots; the step's `high`
  int64_t max_age;   // up to kMaxAge; -1: no promise
  Mode mode;         // the sign of starvation on the high side
  std::optional<Tensor>
      entry{};  // (1,) i32: future is (E, max_age + 1), an entry an evaluation (tick.h)
};

void select(const SelectArgs& args, Stream stream);

}  // namespace flagdit
