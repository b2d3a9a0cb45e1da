// Tiles of AMX, and the AVX-512 around them. For files compiled for both only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "scratch.h"

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
    // GCC takes the instruction to read 8 of the 64 bytes, and may leave out the stores of others.
    asm volatile("" ::"r"(config) : "memory");
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

// 2^x to 8e-5, a tenth of what rounding to bf16 costs, by a minimax polynomial.
inline __m512 exp2(__m512 x) {
  constexpr int kToFloor = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  const __m512 part = _mm512_reduce_ps(x, kToFloor);  // x - floor(x)
  __m512 p = _mm512_set1_ps(7.802455e-2f);
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(2.2606718e-1f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(6.9583349e-1f));
  p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(9.9992523e-1f));
  return _mm512_scalef_ps(p, x);  // by 2^floor(x)
}

// Pairs (a, b) of bf16 in 32 bits: a in the low half.
inline __m512i bf16_pairs(__m512 a, __m512 b) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                      21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                      11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), halves);
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

inline __mmask32 first32(int64_t count) {
  return count >= 32 ? ~__mmask32(0) : __mmask32((1u << (count < 0 ? 0 : count)) - 1);
}

}  // namespace flagdit
