// How many slots a step computes, by the rule of adapt.h, decided where the scores lie: on a GPU a
// run then reads four bytes a step.
#pragma once

#include <cstdint>
#include <optional>

#include "flagdit/tensor.h"

namespace flagdit {

struct DecideArgs {
  Tensor score;     // (N, B) f32, of the metric `change`: below 0 counts as 0, NaN as infinite
  Tensor velocity;  // (N, B, P) f32
  Tensor age;       // (N, B) i32
  Tensor future;   // (max_age + 1,) i32, the step's entry of refresh_capacity; unread if max_age is
                   // -1
  Tensor scratch;  // (decide_scratch(N - pinned, B),) i32
  Tensor active;   // (1,) i32 out: slots of the head; 0 if the gate leaves the step out
  int64_t pinned;  // slots 0 .. pinned-1, of N - 1 at most, always computed, no part of the error
  int64_t planned;      // slots of the head as planned, the least of a step that is not left out
  int64_t bucket;       // patches are computed in multiples of this, as in patches_needed
  int64_t max_age;      // up to kMaxAge; -1: no promise
  double error_budget;  // 0: none, and the head is as planned
  double gate;          // 0: none
  std::optional<Tensor>
      entry{};  // (1,) i32: future is (E, max_age + 1), an entry an evaluation (tick.h)
  int64_t head_multiple = 1;  // slots of the head are a multiple of this, or all (model.h)
};

// Every device makes its sums in double and in one order, and so decides alike.
void decide_active(const DecideArgs& args, Stream stream);

// Values of `scratch`.
int64_t decide_scratch(int64_t patches, int64_t samples);

}  // namespace flagdit
