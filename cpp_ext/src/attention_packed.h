// Keys and values in the order in which the tiles of attention take them.
#pragma once

#include "attention_kernel.h"

namespace flagdit {

constexpr float kAbsent = -1e30f;  // the score of a key that is there to fill a tile
constexpr float kLog2e = 1.44269504f;

// Keys and values of all pairs of a row and a key head, as the left operands of both products.
struct Packed : PackedLayout {
  Packed(const Attention& a, const Attended& to, void* memory)
      : PackedLayout(packed_layout(a, to)) {
    key = static_cast<uint16_t*>(memory);
    value = reinterpret_cast<uint32_t*>(key + pairs * keys * width);
    bias = reinterpret_cast<float*>(value + pairs * keys / 2 * width);
  }

  uint16_t* key;    // (pairs, keys, width)
  uint32_t* value;  // (pairs, keys / 32, width, 16 pairs of keys)
  float* bias;      // (rows, keys), in units of log2
};

// Those of the tokens, and behind them those of the text.
inline Packed packed_tokens(const Attention& a) { return Packed(a, a.tokens, a.packed); }
inline Packed packed_text(const Attention& a) {
  return Packed(a, a.text, static_cast<char*>(a.packed) + packed_layout(a, a.tokens).bytes());
}

}  // namespace flagdit
