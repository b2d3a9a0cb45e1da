// How attention is cut into tasks, and what both backends read.
#pragma once

#include <algorithm>
#include <cstdint>

#include "flagdit/attention.h"

namespace flagdit {

constexpr int64_t kQueries = 32;  // queries that are worked on at once

// A task: some queries of all heads that share one key head, in one row.
struct AttentionTask {
  int64_t row, kv_head;
  int64_t begin, end;  // queries
};

// A task prepares all keys of its key head first; so many blocks of queries are worth that.
inline int64_t attention_splits(const Attention& a) {
  const int64_t blocks = (a.active + kQueries - 1) / kQueries;
  return std::clamp<int64_t>(32 / (a.rows * a.kv_heads), 1, std::max<int64_t>(blocks / 8, 1));
}

inline AttentionTask attention_task(const Attention& a, int64_t task) {
  const int64_t splits = attention_splits(a), pair = task / splits, split = task % splits;
  const int64_t blocks = (a.active + kQueries - 1) / kQueries;
  return {pair / a.kv_heads, pair % a.kv_heads, blocks * split / splits * kQueries,
          std::min(blocks * (split + 1) / splits * kQueries, a.active)};
}

// Key or value `slot` of the head and the tail together: (d,).
inline const uint16_t* key_of(const Attention& a, const AttentionTask& t, int64_t slot) {
  const bool head = slot < a.head.count;
  const int64_t at = head ? slot : slot - a.head.count;
  return (head ? a.head.keys : a.tail.keys) +
         ((at * a.rows + t.row) * a.kv_heads + t.kv_head) * a.size;
}

inline const uint16_t* value_of(const Attention& a, const AttentionTask& t, int64_t slot) {
  const bool head = slot < a.head.count;
  const int64_t at = head ? slot : slot - a.head.count;
  return (head ? a.head.values : a.tail.values) +
         ((at * a.rows + t.row) * a.kv_heads + t.kv_head) * a.size;
}

// Of the query and of the output: (d,).
inline int64_t query_at(const Attention& a, const AttentionTask& t, int64_t query, int64_t head) {
  return ((query * a.rows + t.row) * a.heads + head) * a.size;
}

// Of the gates of what is at `at` in the output.
inline int64_t gate_at(const Attention& a, int64_t at) {
  const int64_t width = a.heads * a.size;
  return at / width % a.residual.rows * width + at % width;
}

void attend_cpu(const Attention& a, const AttentionTask& t);
void attend_amx(const Attention& a, const AttentionTask& t);

}  // namespace flagdit
