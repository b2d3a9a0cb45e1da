#include <algorithm>
#include <array>

#include "select_rule.h"

namespace flagdit {
namespace {

struct Weigh {
  float high_rate, low_rate;
  float operator()(Order order, int32_t drops) const {
    return weight(order == Order::low ? low_rate : high_rate, drops);
  }
};

using CpuRule = Rule<Weigh>;

Forced find_forced(const SelectKernel& k, int64_t sample) {
  if (k.max_age < 0) return {kNeverForced, 0};
  std::array<int32_t, kMaxAge + 1> count{};
  for (int64_t slot = k.pinned; slot < k.slots; ++slot) {
    const int32_t age = clamp_age(load_token(k, sample, slot).age, k.max_age);
    ++count[static_cast<size_t>(age)];
  }
  return count_forced(count.data(), future_entry(k), k.max_age, k.active - k.pinned);
}

// The code of the rank-th candidate (from 1), or 0 for none. There are fewer only if token ids
// repeat: then it is the largest possible code, as in the CUDA kernel.
uint64_t threshold(const SelectKernel& k, const CpuRule& rule, int64_t sample, Order order,
                   int64_t rank) {
  if (rank == 0) return 0;
  uint64_t* first = k.codes + sample * k.slots;
  uint64_t* last = first;
  for (int64_t slot = k.pinned; slot < k.slots; ++slot) {
    const Token token = load_token(k, sample, slot);
    if (rule.candidate(order, token)) *last++ = rule.code(order, token);
  }
  if (last - first < rank) return UINT64_MAX;
  std::nth_element(first, first + rank - 1, last);
  return first[rank - 1];
}

CpuRule choose(const SelectKernel& k, int64_t sample) {
  CpuRule rule{k.max_age, {k.high_rate, k.low_rate}, {}};
  const Forced forced = find_forced(k, sample);
  rule.choice.age = forced.age;
  rule.choice.forced = threshold(k, rule, sample, Order::forced, forced.count);
  rule.choice.high = threshold(k, rule, sample, Order::high, k.high);
  rule.choice.low = threshold(k, rule, sample, Order::low, k.low);
  return rule;
}

// Pairs head slots that leave with tail slots that enter, both in ascending order.
int64_t pair(const SelectKernel& k, const CpuRule& rule, int64_t sample) {
  int32_t* swaps = k.swaps + sample * k.slots * 2;
  int64_t count = 0;
  int64_t enters = k.active;
  for (int64_t slot = k.pinned; slot < k.active; ++slot) {
    if (rule.is_active(load_token(k, sample, slot))) continue;
    while (enters < k.slots && !rule.is_active(load_token(k, sample, enters))) ++enters;
    if (enters == k.slots) break;  // only if token ids repeat
    swaps[count * 2] = static_cast<int32_t>(slot);
    swaps[count * 2 + 1] = static_cast<int32_t>(enters++);
    ++count;
  }
  return count;
}

}  // namespace

void select_cpu(const SelectKernel& k) {
  for (int64_t sample = 0; sample < k.samples; ++sample) {
    k.counts[sample] = static_cast<int32_t>(pair(k, choose(k, sample), sample));
  }
}

}  // namespace flagdit
