#include "amx_tiles.h"
#include "attention_packed.h"

namespace flagdit {
namespace {

// Packs 32 keys from `slot` on, of all pairs: tokens lie rows and heads apart, too far for a
// processor to fetch those of one pair ahead by itself.
class Packer {
 public:
  Packer(const Attention& a, const Attended& to, const Packed& into, int64_t slot)
      : to_(to), into_(into), slot_(slot), size_(a.size) {
    auto* values = scratch<uint16_t, struct RowScratch>(kPackKeys * into.width);
    for (int64_t pair = 0; pair < into.pairs; ++pair) {
      const int64_t row = pair / a.kv_heads, kv_head = pair % a.kv_heads;
      copy(row, kv_head, key_of, into.key + (pair * into.keys + slot) * into.width);
      copy(row, kv_head, value_of, values);
      for (int64_t c = 0; c < into.width; c += 16) turn(pair, c, values);
    }
    for (int64_t row = 0; row < into.rows; ++row) copy_bias(row);
  }

 private:
  // (32, width), a whole cache line at a time: the next may take its place in the cache.
  template <typename Of>
  void copy(int64_t row, int64_t kv_head, const Of& of, uint16_t* to) const {
    for (int64_t i = 0; i < kPackKeys; ++i, to += into_.width) {
      const bool present = slot_ + i < to_.count();
      const uint16_t* from = present ? of(to_, row, kv_head, slot_ + i) : nullptr;
      for (int64_t c = 0; c < into_.width; c += 32) {
        const __mmask32 mask = present ? first32(size_ - c) : 0;
        _mm512_store_si512(to + c, _mm512_maskz_loadu_epi16(mask, mask != 0 ? from + c : nullptr));
      }
    }
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
  int64_t slot_, size_;
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
