// The rule of `select`, shared by its backends so that they cannot disagree: orders as distinct
// 64-bit codes, and the choice as three thresholds on them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "flagdit/select.h"
#include "host_device.h"
#include "tick_kernel.h"

namespace flagdit {

constexpr int32_t kNeverForced = INT32_MAX;

struct SelectKernel {
  const float* score;     // (N, B)
  const int32_t* age;     // (N, B)
  const int32_t* drops;   // (N, B)
  const int32_t* token;   // (N, B)
  const int32_t* future;  // (E, max_age + 1)
  Entry entry;            // of future
  int32_t* swaps;         // (B, N, 2)
  int32_t* counts;        // (B,)
  uint64_t* codes;        // (B, N)
  int64_t slots, samples, active, pinned;
  int64_t high, low;          // tokens to cache from either side; high + low == slots - active
  float high_rate, low_rate;  // exponents a drop, of the weights of either side
  int32_t max_age;            // -1: no promise
};

void select_cpu(const SelectKernel& kernel);
void select_cuda(const SelectKernel& kernel, Stream stream);

enum class Order { forced, high, low };  // which tokens come first: see code()

struct Forced {
  int32_t age;    // every older token is forced ...
  int64_t count;  // ... and so are this many of this age
};

// A token is forced if older than `age`, or of that age with a code up to `forced`; else it is
// cached if its code on a side is at most that side's threshold. No such code is as small as 0.
struct Choice {
  int32_t age = kNeverForced;
  uint64_t forced = 0, high = 0, low = 0;
};

// One token as the rule sees it.
struct Token {
  float score;
  int32_t age, drops, id;
};

FLAGDIT_HOST_DEVICE inline Token load_token(const SelectKernel& k, int64_t sample, int64_t slot) {
  const int64_t at = slot * k.samples + sample;
  return {k.score[at], k.age[at], k.drops[at], k.token[at]};
}

// In double and then rounded: libraries agree on the result, and equal tokens stay equal.
FLAGDIT_HOST_DEVICE inline float weight(float rate, int32_t drops) {
  return static_cast<float>(exp(static_cast<double>(rate) * drops));
}

// The bits of a float as an integer of the same order.
FLAGDIT_HOST_DEVICE inline uint32_t ordered_bits(float value) {
  const float canonical = value + 0.0f;  // -0 becomes +0
  uint32_t bits = 0;
  memcpy(&bits, &canonical, sizeof bits);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Smallest first. NaN is the first to be forced and the last to be cached.
FLAGDIT_HOST_DEVICE inline uint64_t make_code(Order order, float score, int32_t id) {
  uint32_t bits = ordered_bits(score);
  if (score != score) bits = order == Order::low ? UINT32_MAX : 0;
  const uint64_t ascending = uint64_t{bits} << 32 | static_cast<uint32_t>(id);
  return order == Order::high ? ~ascending : ascending;
}

FLAGDIT_HOST_DEVICE inline const int32_t* future_entry(const SelectKernel& k) {
  return k.future + current(k.entry) * (k.max_age + 1);
}

FLAGDIT_HOST_DEVICE inline int32_t clamp_age(int32_t age, int32_t max_age) {
  return age < 0 ? 0 : age > max_age ? max_age : age;
}

// refresh.h's max_h(c_h - future[h - 1]), found among the ages: count[a] tokens have age a, and
// those of age max_age + 1 - h or more are due within h selections. At most `room` can be forced.
FLAGDIT_HOST_DEVICE inline Forced count_forced(const int32_t* count, const int32_t* future,
                                               int32_t max_age, int64_t room) {
  int64_t due = 0, needed = 0;
  for (int32_t h = 1; h <= max_age + 1; ++h) {
    due += count[max_age + 1 - h];
    if (due - future[h - 1] > needed) needed = due - future[h - 1];
  }
  needed = needed < room ? needed : room;
  int32_t age = max_age;
  while (needed > 0 && count[age] < needed) needed -= count[age--];
  return {needed > 0 ? age : kNeverForced, needed};
}

// Weigh(order, drops) is weight(), or a table of it.
template <typename Weigh>
struct Rule {
  int32_t max_age;
  Weigh weigh;
  Choice choice;

  FLAGDIT_HOST_DEVICE uint64_t code(Order order, const Token& token) const {
    return make_code(order, token.score * weigh(order, token.drops), token.id);
  }

  // Whether the token is among those that the threshold of this order is found on.
  FLAGDIT_HOST_DEVICE bool candidate(Order order, const Token& token) const {
    if (order == Order::forced) return clamp_age(token.age, max_age) == choice.age;
    if (is_forced(token)) return false;
    return order == Order::high || code(Order::high, token) > choice.high;
  }

  FLAGDIT_HOST_DEVICE bool is_forced(const Token& token) const {
    const int32_t age = clamp_age(token.age, max_age);
    return age > choice.age || (age == choice.age && code(Order::forced, token) <= choice.forced);
  }

  FLAGDIT_HOST_DEVICE bool is_active(const Token& token) const {
    return is_forced(token) ||
           (code(Order::high, token) > choice.high && code(Order::low, token) > choice.low);
  }
};

}  // namespace flagdit
