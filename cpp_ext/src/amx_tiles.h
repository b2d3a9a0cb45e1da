// Tiles of AMX, and the AVX-512 around them. For files compiled for both only.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace flagdit {

// All eight tiles as 16 rows of 64 bytes, for the thread, as long as this lives.
class Tiles {
 public:
  Tiles() {
    alignas(64) uint8_t config[64] = {1};  // palette
    for (int tile = 0; tile < 8; ++tile) {
      config[16 + 2 * tile] = 64;  // bytes a row, 16 bits
      config[48 + tile] = 16;      // rows
    }
    _tile_loadconfig(config);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// Products are of 2 x 2 tiles: tiles 0 to 3 hold the sums, row by row, 4 and 5 the left operands,
// below each other, and 6 and 7 the right ones, beside each other. Compilers do not know that a
// tile load reads memory, hence the fences.
inline void fence() { asm volatile("" ::: "memory"); }

inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Sums (32, 32) of 4 bytes in rows of `stride` bytes.
inline void load_sums(const void* sums, int64_t stride) {
  const char* at = static_cast<const char*>(sums);
  _tile_loadd(0, at, stride);
  _tile_loadd(1, at + 64, stride);
  _tile_loadd(2, at + 16 * stride, stride);
  _tile_loadd(3, at + 16 * stride + 64, stride);
}

inline void store_sums(void* sums, int64_t stride) {
  char* at = static_cast<char*>(sums);
  _tile_stored(0, at, stride);
  _tile_stored(1, at + 64, stride);
  _tile_stored(2, at + 16 * stride, stride);
  _tile_stored(3, at + 16 * stride + 64, stride);
  fence();
}

inline void load_left(const void* upper, const void* lower, int64_t stride) {
  _tile_loadd(4, upper, stride);
  _tile_loadd(5, lower, stride);
}

inline void load_right(const void* left, const void* right) {
  _tile_loadd(6, left, 64);
  _tile_loadd(7, right, 64);
}

inline void multiply_bf16() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

inline void multiply_int8() {
  _tile_dpbssd(0, 4, 6);
  _tile_dpbssd(1, 4, 7);
  _tile_dpbssd(2, 5, 6);
  _tile_dpbssd(3, 5, 7);
}

// Uninitialised memory of a thread, aligned to a cache line, that is kept for the thread's next
// task: new pages from the system would cost more than the work on them. One for each kind of
// content.
template <typename T, typename Kind>
T* scratch(int64_t count) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local int64_t bytes = 0;
  const int64_t needed = (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  if (needed > bytes) {
    memory.reset(std::aligned_alloc(64, needed));
    bytes = memory == nullptr ? 0 : needed;
    if (memory == nullptr) throw std::bad_alloc();
  }
  return static_cast<T*>(memory.get());
}

// 2^x to some 2e-6, for x <= 126; below -126 it is 2^-126.
inline __m512 exp2(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(x, whole);
  __m512 p = _mm512_set1_ps(1.3333558e-3f);  // ln(2)^n / n!
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(9.6181291e-3f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(5.5504109e-2f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(2.4022651e-1f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(6.9314718e-1f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, whole);
}

// 16 f32 as bf16, in the low halves of 32 bits.
inline __m512i bf16_low(__m512 x) {
  return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
}

// Pairs (a, b) of bf16 in 32 bits: a in the low half.
inline __m512i bf16_pairs(__m512 a, __m512 b) {
  return _mm512_or_si512(bf16_low(a), _mm512_slli_epi32(bf16_low(b), 16));
}

// Rows become columns of 16 x 16 words.
inline void transpose(__m512i (&v)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // columns 4j + i % 4 of four rows, in lane j
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // lanes 0 and 2, then 1 and 3, of eight rows
    t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    v[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    v[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

inline __mmask16 first(int64_t count) {
  return count >= 16 ? __mmask16(0xffff) : __mmask16((1u << (count < 0 ? 0 : count)) - 1);
}

}  // namespace flagdit
