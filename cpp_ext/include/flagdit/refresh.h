// The starvation guarantee: no token keeps a velocity older than max_age steps.
//
// A token's age is the number of steps since its velocity was computed; a token of age a must be
// active within the next max_age - a + 1 selections. With c_h tokens due within h selections and
// future[h - 1] patches that can still be computed after this one, in the h - 1 steps that follow,
// at least c_h - future[h - 1] of them must be active now. `select` forces the oldest
// max_h(c_h - future[h - 1]) tokens, and earliest deadline first keeps every deadline met:
//   - h <= max_age: of the c_(h+1) oldest tokens at least c_(h+1) - future[h] are forced, so at
//     most future[h], the capacity of the next h steps, are left for the next selection;
//   - h == max_age + 1: all tokens are due, and a window of max_age + 1 steps must hold them all.
// The second line is the only condition on the plan. It is necessary as well: a window that holds
// fewer than all tokens leaves one behind, which ends it at an age of max_age + 1.
#pragma once

#include <cstdint>
#include <vector>

#include "flagdit/plan.h"

namespace flagdit {

constexpr int64_t kMaxAge = 1023;  // `select` counts ages in fast memory of this size

// The smallest T >= 0 for which every window of T + 1 consecutive steps without a dense step, and
// inside the plan, can compute all tokens - pinned patches.
int64_t least_max_age(const std::vector<Step>& steps, int64_t tokens, int64_t pinned);

// (steps, max_age + 1): [s, h] is the number of patches that steps s+1 .. s+h can compute;
// INT32_MAX once a dense step or the end of the plan lies among them. Entry s is `future` of the
// selection for step s.
std::vector<int32_t> refresh_capacity(const std::vector<Step>& steps, int64_t tokens,
                                      int64_t pinned, int64_t max_age);

}  // namespace flagdit
