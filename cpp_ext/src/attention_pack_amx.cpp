#include "amx_tiles.h"
#include "attention_packed.h"

namespace flagdit {
namespace {

// 32 values of bf16 as f32: those in even places, and those in odd ones.
inline __m512 even(__m512i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)); }
inline __m512 odd(__m512i v) {
  return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(0xffff0000)));
}

// What is to be cut off for the nearest bf16 of each, ties to even, as to_bf16 has it.
inline __m512i rounded(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), last);
}

// A token of the tail: the last row that was computed of it, the one before, and how to go on.
struct Line {
  const uint16_t *last, *before;
  __m512 gain, ahead;

  // 32 values of bf16: last + ahead * bf16((last - before) * gain).
  __m512i at(int64_t c, __mmask32 mask) const {
    const __m512i now = _mm512_maskz_loadu_epi16(mask, last + c);
    if (before == nullptr) return now;
    const __m512i then = _mm512_maskz_loadu_epi16(mask, before + c);
    const __m512i low = rounded(next(even(now), even(then)));
    const __m512i high = rounded(next(odd(now), odd(then)));
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(low, 16), high);
  }

 private:
  __m512 next(__m512 now, __m512 then) const {
    const __m512i slope = rounded(_mm512_mul_ps(_mm512_sub_ps(now, then), gain));
    return _mm512_add_ps(now, _mm512_mul_ps(ahead, odd(slope)));
  }
};

// Whole lines go past the caches: nothing reads them before the next step, and what they replace in
// memory need not be read first.
inline void put_away(uint16_t* to, __mmask32 mask, __m512i values) {
  if (mask == ~__mmask32(0) && reinterpret_cast<uintptr_t>(to) % 64 == 0)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), values);
  else
    _mm512_mask_storeu_epi16(to, mask, values);
}

// Packs 32 keys from `slot` on, of all pairs: a token after the other, whose heads lie together.
class Packer {
 public:
  Packer(const Attention& a, const Attended& to, const Packed& into, int64_t slot)
      : to_(to), into_(into), slot_(slot), size_(a.size), heads_(a.kv_heads) {
    const int64_t keys = into.keys * into.width, block = kPackKeys * into.width;
    copy_all(Of::keys, into.key + slot * into.width, keys);
    auto* values = scratch<uint16_t, struct RowScratch>(into.pairs * block);
    copy_all(Of::values, values, block);
    for (int64_t pair = 0; pair < into.pairs; ++pair)
      for (int64_t c = 0; c < into.width; c += 16) turn(pair, c, values + pair * block);
    for (int64_t row = 0; row < into.rows; ++row) copy_bias(row);
    _mm_sfence();  // what was put away is there for whoever comes next
  }

 private:
  enum class Of { keys, values };

  // All rows of a token together, since they are in memory, too.
  void copy_all(Of of, uint16_t* to, int64_t stride) const {
    for (int64_t i = 0; i < kPackKeys; ++i, to += into_.width) {
      const int64_t next = slot_ + i + 1;
      if (to_.kept != nullptr && next >= to_.head.count && next < to_.count()) fetch(next, of);
      for (int64_t row = 0; row < into_.rows; ++row)
        copy(row, slot_ + i, of, to + row * heads_ * stride, stride);
    }
  }

  // Asks for the rows of a token of the tail: they are in any order, which a processor cannot
  // foresee.
  void fetch(int64_t slot, Of of) const {
    for (int64_t row = 0; row < into_.rows; ++row) {
      for (const int32_t which : {0, 1}) {
        const uint16_t* its = kept_row(row, slot, of, which);
        for (int64_t c = 0; c < heads_ * size_; c += 32) _mm_prefetch(its + c, _MM_HINT_T0);
      }
    }
  }

  // All heads of a token, (G, width), `stride` apart: a whole cache line at a time, since the next
  // may take its place in the cache.
  void copy(int64_t row, int64_t slot, Of of, uint16_t* to, int64_t stride) const {
    if (slot >= to_.count()) {
      fill(to, stride, [](int64_t, int64_t, __mmask32) { return _mm512_setzero_si512(); });
    } else if (to_.kept != nullptr && slot >= to_.head.count) {
      const Line line = line_of(row, slot, of);
      fill(to, stride, [&](int64_t head, int64_t c, __mmask32 mask) {
        return line.at(head * size_ + c, mask);
      });
    } else {
      copy_given(row, slot, of, to, stride);
    }
  }

  // Those that the graph gives; where it is kept, the head is written to its place, too.
  void copy_given(int64_t row, int64_t slot, Of of, uint16_t* to, int64_t stride) const {
    uint16_t* keep = to_.kept != nullptr && to_.kept->tails->keeps
                         ? kept_row(row, slot, of, to_.kept->tails->last[at(row, slot)])
                         : nullptr;
    fill(to, stride, [&](int64_t head, int64_t c, __mmask32 mask) {
      const uint16_t* from = (of == Of::keys ? key_of : value_of)(to_, row, head, slot) + c;
      const __m512i got = _mm512_maskz_loadu_epi16(mask, mask != 0 ? from : nullptr);
      if (keep != nullptr) put_away(keep + head * size_ + c, mask, got);
      return got;
    });
  }

  template <typename Make>
  void fill(uint16_t* to, int64_t stride, const Make& make) const {
    for (int64_t head = 0; head < heads_; ++head)
      for (int64_t c = 0; c < into_.width; c += 32)
        _mm512_store_si512(to + head * stride + c, make(head, c, first32(size_ - c)));
  }

  // In tables by slot.
  int64_t at(int64_t row, int64_t slot) const {
    const int64_t samples = to_.kept->tails->samples;
    return slot * samples + row % samples;
  }

  uint16_t* kept_row(int64_t row, int64_t slot, Of of, int32_t which) const {
    const KeptRows& kept = of == Of::keys ? to_.kept->keys : to_.kept->values;
    const int64_t token = to_.kept->tails->token[at(row, slot)];
    return kept.rows[which] + (token * into_.rows + row) * kept.width;
  }

  Line line_of(int64_t row, int64_t slot, Of of) const {
    const Tails& tails = *to_.kept->tails;
    const int64_t its = at(row, slot);
    const int32_t last = tails.last[its];
    const float gain = tails.gain[its], ahead = tails.ahead[its];
    const bool moves = gain != 0.0f && ahead != 0.0f;
    return {kept_row(row, slot, of, last), moves ? kept_row(row, slot, of, 1 - last) : nullptr,
            _mm512_set1_ps(gain), _mm512_set1_ps(ahead)};
  }

  // Sixteen channels of values (32, width).
  void turn(int64_t pair, int64_t c, const uint16_t* values) const {
    __m512i pairs[16];
    for (int64_t i = 0; i < 16; ++i) {
      const uint16_t* two = values + 2 * i * into_.width + c;
      pairs[i] = _mm512_or_si512(channels(two), _mm512_slli_epi32(channels(two + into_.width), 16));
    }
    transpose(pairs);
    uint32_t* to = into_.value + (pair * into_.keys + slot_) / 2 * into_.width + 16 * c;
    for (int64_t i = 0; i < 16; ++i) _mm512_store_si512(to + 16 * i, pairs[i]);
  }

  // Sixteen of them, in the low halves of 32 bits.
  static __m512i channels(const uint16_t* values) {
    return _mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(values)));
  }

  void copy_bias(int64_t row) {
    const float* from = to_.bias == nullptr ? nullptr : to_.bias + row * to_.count();
    float* to = into_.bias + row * into_.keys;
    for (int64_t at = slot_; at < slot_ + kPackKeys; ++at)
      to[at] = at >= to_.count() ? kAbsent
               : from == nullptr ? 0.0f
                                 : std::max(from[at] * kLog2e, kAbsent);
  }

  const Attended& to_;
  const Packed& into_;
  int64_t slot_, size_, heads_;
};

}  // namespace

void pack_amx(const Attention& a, int64_t task) {
  const Packed tokens = packed_tokens(a);
  if (task < tokens.blocks())
    Packer(a, a.tokens, tokens, task * kPackKeys);
  else
    Packer(a, a.text, packed_text(a), (task - tokens.blocks()) * kPackKeys);
}

}  // namespace flagdit
