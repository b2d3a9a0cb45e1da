// Softmax attention on a CPU, over keys and values that lie in two pieces.
#pragma once

#include <cstdint>

#include "flagdit/linear.h"

namespace flagdit {

// Keys and values of `count` tokens, (count, R, G, d) each, in bf16.
struct KeyValues {
  const uint16_t* keys = nullptr;
  const uint16_t* values = nullptr;
  int64_t count = 0;
};

// Everything is slot-major, and f32 but for keys and values. Head h of the query reads key and
// value head h / (H / G).
struct Attention {
  const float* query;           // (A, R, H, d)
  KeyValues head;               // what this step computed
  KeyValues tail;               // what earlier steps left; may be empty
  const float* bias = nullptr;  // (R, M) added to the scores of every key, M = head + tail, or null
  float* out;                   // (A, R, H * d)
  Residual residual{};          // of A * R tokens
  float scale;                  // of the scores
  int64_t active, rows, heads, kv_heads, size;  // A, R, H, G, d
};

// Independent pieces of the work: run_attention(a, i) for every i below attention_tasks(a), on any
// threads. Where the CPU has tiles for it (amx.h), queries and weights are bf16 and sums f32.
int64_t attention_tasks(const Attention& a);
void run_attention(const Attention& a, int64_t task);

}  // namespace flagdit
