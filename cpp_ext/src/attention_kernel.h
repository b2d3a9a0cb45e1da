// How attention is cut into tasks, and what both backends read.
#pragma once

#include <algorithm>
#include <cstdint>

#include "flagdit/attention.h"
#include "flagdit/checked.h"

namespace flagdit {

constexpr int64_t kQueries = 32;   // queries that are worked on at once
constexpr int64_t kPackKeys = 32;  // keys of one task of packing

// A task: some queries of all heads that share one key head, in one row.
struct AttentionTask {
  int64_t row, kv_head;
  int64_t begin, end;  // queries
};

// Enough tasks for the threads there may be, of whole blocks of queries.
inline int64_t attention_splits(const Attention& a) {
  const int64_t blocks = (a.active + kQueries - 1) / kQueries;
  return std::clamp<int64_t>(32 / (a.rows * a.kv_heads), 1, std::max<int64_t>(blocks, 1));
}

inline AttentionTask attention_task(const Attention& a, int64_t task) {
  const int64_t splits = attention_splits(a), pair = task / splits, split = task % splits;
  const int64_t blocks = (a.active + kQueries - 1) / kQueries;
  return {pair / a.kv_heads, pair % a.kv_heads, blocks * split / splits * kQueries,
          std::min(blocks * (split + 1) / splits * kQueries, a.active)};
}

// Key `slot` of the head and the tail together, of one row and key head: (d,).
inline const uint16_t* key_of(const Attended& to, int64_t row, int64_t kv_head, int64_t slot) {
  const bool head = slot < to.head.count;
  const KeyValues& piece = head ? to.head : to.tail;
  const int64_t at = head ? slot : slot - to.head.count;
  return piece.keys + at * piece.token + row * piece.row + kv_head * piece.head;
}

inline const uint16_t* value_of(const Attended& to, int64_t row, int64_t kv_head, int64_t slot) {
  const bool head = slot < to.head.count;
  const KeyValues& piece = head ? to.head : to.tail;
  const int64_t at = head ? slot : slot - to.head.count;
  return piece.values + at * piece.token + row * piece.row + kv_head * piece.head;
}

inline int64_t query_at(const Attention& a, const AttentionTask& t, int64_t query, int64_t head) {
  return ((query * a.rows + t.row) * a.heads + head) * a.size;
}

// Sizes of what pack_amx makes of keys and values, filled up to whole tiles.
struct PackedLayout {
  int64_t rows, pairs, keys, width;  // R, R * G, M and d rounded up

  int64_t blocks() const { return keys / kPackKeys; }
  int64_t bytes() const {
    return sum("attention", {product("attention", {pairs, keys, width, 4}),
                             product("attention", {rows, keys, 4})});
  }
};

inline PackedLayout packed_layout(const Attention& a, const Attended& to) {
  const auto whole = [](int64_t n) { return (n + 31) / 32 * 32; };
  return {a.rows, a.rows * a.kv_heads, whole(to.count()), whole(a.size)};
}

void pack_amx(const Attention& a, int64_t task);
void attend_amx(const Attention& a, const AttentionTask& t);
void attend_cpu(const Attention& a, const AttentionTask& t);

}  // namespace flagdit
