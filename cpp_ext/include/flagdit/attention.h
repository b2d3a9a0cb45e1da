// Softmax attention on a CPU: to cached tokens, whose
// keys and values lie in two pieces, and to a text.
#pragma once

#include <cstdint>

#include "flagdit/tails.h"

namespace flagdit {

// Keys and values of `count` tokens, d values each, in bf16. The others are strides, in values.
struct KeyValues {
  const uint16_t* keys = nullptr;
  const uint16_t* values = nullptr;
  int64_t count = 0;
  int64_t token = 0, row = 0, head = 0;
};

// Keys and values by token: where the tail is found, and the head kept, instead of in slots.
struct KeptKeyValues {
  const Tails* tails;
  KeptRows keys, values;
};

// What is attended to: a head and then a tail, either of which may be empty. It is
// softmax(scale * q k + bias) v.
struct Attended {
  KeyValues head{}, tail{};             // of a tail that is kept by token, the count only
  const KeptKeyValues* kept = nullptr;  // needs tiles
  const float* bias = nullptr;          // (R, M) of every key, M = head + tail; null for none
  float scale = 1.0f;

  int64_t count() const { return head.count + tail.count; }
};

// out = attention to the tokens + gate * attention to the text. Head h of the query reads key and
// value head h / (H / G).
struct Attention {
  const float* query;  // (A, R, H, d)
  Attended tokens{};
  Attended text{};                              // may be empty
  const float* text_gate{};                     // (H * d)
  float* out;                                   // (A, R, H * d)
  int64_t active, rows, heads, kv_heads, size;  // A, R, H, G, d
  void* packed = nullptr;                       // packing_memory(a)
};

// First pack_keys(a, i) for every i below pack_tasks(a), on any threads, which
// lays keys and values out for the CPU's tiles (amx.h); then run_attention(a, i)
// for every i below attention_tasks(a). Where there are tiles, queries and
// weights are bf16 and sums f32; without, there is nothing to pack.
void* packing_memory(const Attention& a);  // of the calling thread, until its next call
int64_t pack_tasks(const Attention& a);
void pack_keys(const Attention& a, int64_t task);
int64_t attention_tasks(const Attention& a);
void run_attention(const Attention& a, int64_t task);

}  // namespace flagdit
