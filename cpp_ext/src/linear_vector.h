// What is done to the vector of one token before and after a product, with AVX-512.
#pragma once

#include <cmath>

#include "amx_tiles.h"
#include "linear_kernel.h"

namespace flagdit {

// x / (1 + 2^(-y log2 e)) to 1e-4, which is far finer than the levels that it is cut into next.
inline __m512 gated(__m512 x, __m512 y) {
  constexpr float kLog2e = 1.44269504f;
  const __m512 e = exp2(_mm512_mul_ps(y, _mm512_set1_ps(-kLog2e)));
  return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(_mm512_set1_ps(1.0f), e)));
}

inline __m512 silu(__m512 x) { return gated(x, x); }

inline __m512 gelu(__m512 x) {
  const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(kGelu * kGeluCube));
  return gated(x, _mm512_mul_ps(x, _mm512_add_ps(cube, _mm512_set1_ps(kGelu))));
}

// The mean of x (width), or of its squares less a mean.
inline float mean_of(const float* x, int64_t width) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t n = 0; n < width; n += 16)
    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(first(width - n), x + n));
  return _mm512_reduce_add_ps(sum) / static_cast<float>(width);
}

inline float variance_of(const float* x, int64_t width, float mean) {
  __m512 squares = _mm512_setzero_ps();
  for (int64_t n = 0; n < width; n += 16) {
    const __mmask16 mask = first(width - n);
    const __m512 v =
        _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, x + n), _mm512_set1_ps(mean));
    squares = _mm512_fmadd_ps(v, v, squares);
  }
  return _mm512_reduce_add_ps(squares) / static_cast<float>(width);
}

inline void modulate(const Modulation& m, int64_t token, const float* x, int64_t width, float* y) {
  const int64_t row = token % m.rows * m.stride;
  const float mean = m.centred ? mean_of(x, width) : 0.0f;
  const __m512 middle = _mm512_set1_ps(mean);
  const __m512 factor = _mm512_set1_ps(1.0f / std::sqrt(variance_of(x, width, mean) + m.epsilon));
  for (int64_t n = 0; n < width; n += 16) {
    const __mmask16 mask = first(width - n);
    const __m512 centred = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + n), middle);
    const __m512 v = _mm512_mul_ps(centred, factor);
    const __m512 weight = _mm512_maskz_loadu_ps(mask, m.weight + n);
    const __m512 scale = _mm512_maskz_loadu_ps(mask, m.scale + row + n);
    const __m512 shift =
        m.shift == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, m.shift + row + n);
    _mm512_mask_storeu_ps(y + n, mask,
                          _mm512_fmadd_ps(v, _mm512_fmadd_ps(weight, scale, weight), shift));
  }
}

inline void normalise(const Norm& norm, int64_t outputs, float* y) {
  const int64_t size = norm.size == 0 ? outputs : norm.size;
  for (float* const end = y + outputs; y < end; y += size) {
    const float mean = norm.bias == nullptr ? 0.0f : mean_of(y, size);
    const __m512 middle = _mm512_set1_ps(mean);
    const __m512 factor =
        _mm512_set1_ps(1.0f / std::sqrt(variance_of(y, size, mean) + norm.epsilon));
    for (int64_t n = 0; n < size; n += 16) {
      const __mmask16 mask = first(size - n);
      const __m512 x = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, y + n), middle);
      const __m512 weight = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, norm.weight + n), factor);
      const __m512 bias =
          norm.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, norm.bias + n);
      _mm512_mask_storeu_ps(y + n, mask, _mm512_fmadd_ps(x, weight, bias));
    }
  }
}

// Every head of a token by the same angles, cos and sin (size / 2).
inline void rotate(const float* cos, const float* sin, int64_t size, int64_t outputs, float* y) {
  const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  for (int64_t c = 0; c < size; c += 16) {
    const __mmask16 half = first(std::min<int64_t>((size - c) / 2, 8)), mask = first(size - c);
    const __m512 cosines = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(half, cos + c / 2));
    const __m512 sines = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(half, sin + c / 2));
    for (float* at = y + c; at < y + outputs; at += size) {
      const __m512 x = _mm512_maskz_loadu_ps(mask, at);
      const __m512 other = _mm512_mul_ps(_mm512_permute_ps(x, 0xB1), sines);
      _mm512_mask_storeu_ps(at, mask, _mm512_fmaddsub_ps(x, cosines, other));
    }
  }
}

inline void narrow(const float* wide, int64_t count, uint16_t* half) {
  for (int64_t n = 0; n < count; n += 16) {
    const __mmask16 mask = first(count - n);
    const __m512 x = _mm512_maskz_loadu_ps(mask, wide + n);
    _mm256_mask_storeu_epi16(half + n, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  }
}

// Adds to a token what it was, at `to`, with its gate.
inline void add_residual(const float* to, const float* gate, int64_t outputs, float* y) {
  for (int64_t n = 0; n < outputs; n += 16) {
    const __mmask16 mask = first(outputs - n);
    const __m512 made = _mm512_maskz_loadu_ps(mask, y + n);
    _mm512_mask_storeu_ps(y + n, mask,
                          _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, gate + n), made,
                                          _mm512_maskz_loadu_ps(mask, to + n)));
  }
}

}  // namespace flagdit
