// Products with int8 weights in tiles of int8, with int32 sums. What comes before and after works
// on a token's vector while it is in the L1 or L2 cache.
#include <cmath>

#include "amx_tiles.h"
#include "linear_kernel.h"

namespace flagdit {
namespace {

constexpr int64_t kRows = 32;     // tokens that are multiplied at once, two tiles
constexpr int64_t kColumns = 32;  // outputs, likewise
constexpr float kLog2e = 1.44269504f;

// Vectors of 32 or more tokens as int8, (tokens, width), and what their levels are worth.
struct Levels {
  int64_t width;
  int8_t* values;
  float* unit;

  void quantise(int64_t token, const float* x, int64_t count) {
    __m512 largest = _mm512_set1_ps(kSmallest);
    for (int64_t k = 0; k < count; k += 16)
      largest =
          _mm512_max_ps(largest, _mm512_abs_ps(_mm512_maskz_loadu_ps(first(count - k), x + k)));
    const float most = _mm512_reduce_max_ps(largest);
    const __m512 factor = _mm512_set1_ps(kLevels / most);
    int8_t* to = values + token * width;
    for (int64_t k = 0; k < width; k += 16) {
      const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(first(count - k), x + k), factor);
      _mm_store_si128(reinterpret_cast<__m128i*>(to + k),
                      _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(scaled)));
    }
    unit[token] = most / kLevels;
  }

  // Tiles are whole: what there is no token for is zero.
  void clear(int64_t token) {
    std::fill(values + token * width, values + (token + 1) * width, int8_t{0});
    unit[token] = 0.0f;
  }
};

// Sums of 32 tokens from `token` on by 32 outputs from `column` on: (32, 32).
void multiply(const Levels& x, int64_t token, const Int8Matrix& w, int64_t column, int32_t* sums) {
  const int8_t* rows = x.values + token * x.width;
  const int8_t* left = w.tiles(column / 16);
  const int8_t* right = w.tiles(column / 16 + 1);
  fence();
  zero_sums();
  for (int64_t k = 0; k < x.width; k += 64) {
    load_left(rows + k, rows + 16 * x.width + k, x.width);
    load_right(left + 16 * k, right + 16 * k);
    multiply_int8();
  }
  store_sums(sums, kColumns * sizeof(int32_t));
}

// Sixteen sums of one token as what they stand for.
__m512 widen(const int32_t* sums, float unit, const float* scales) {
  const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(unit), _mm512_loadu_ps(scales));
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums)), scale);
}

// x / (1 + 2^(-x log2 e)) to 1e-4, which is far finer than the levels that it is cut into next.
__m512 silu(__m512 x) {
  const __m512 e = exp2(_mm512_mul_ps(x, _mm512_set1_ps(-kLog2e)));
  return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(_mm512_set1_ps(1.0f), e)));
}

// y (count, outputs) of the first `count` tokens, the
// first of which is token `begin` of the residual.
void multiply_all(const Levels& x, const Int8Matrix& w, Tokens at, const Residual& residual,
                  float* y) {
  alignas(64) int32_t sums[kRows * kColumns];
  const float* gates[kBlock];
  for (int64_t i = 0; i < at.count && residual.x != nullptr; ++i)
    gates[i] = residual.gate + (at.begin + i) % residual.rows * residual.stride;
  const int64_t outputs = w.outputs();
  for (int64_t n = 0; n < outputs; n += kColumns) {
    for (int64_t block = 0; block < at.count; block += kRows) {
      multiply(x, block, w, n, sums);
      for (int64_t i = block; i < std::min(block + kRows, at.count); ++i) {
        for (int64_t j = n; j < n + kColumns; j += 16) {
          const __mmask16 mask = first(outputs - j);
          __m512 out = widen(sums + (i - block) * kColumns + j - n, x.unit[i], w.scales() + j);
          if (residual.x != nullptr) {
            const float* to = residual.x + (at.begin + i) * outputs + j;
            out = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, gates[i] + j), out,
                                  _mm512_maskz_loadu_ps(mask, to));
          }
          _mm512_mask_storeu_ps(y + i * outputs + j, mask, out);
        }
      }
    }
  }
}

// silu(x W1^T) * x W3^T: (count, padded outputs of W1).
void gate(const Levels& x, const Int8Matrix& w1, const Int8Matrix& w3, int64_t count,
          float* hidden) {
  alignas(64) int32_t gates[kRows * kColumns], values[kRows * kColumns];
  for (int64_t n = 0; n < w1.outputs(); n += kColumns) {
    for (int64_t token = 0; token < count; token += kRows) {
      multiply(x, token, w1, n, gates);
      multiply(x, token, w3, n, values);
      for (int64_t i = 0; i < std::min(kRows, count - token); ++i) {
        float* to = hidden + (token + i) * w1.padded_outputs() + n;
        for (int64_t j = 0; j < kColumns; j += 16) {
          const int64_t at = i * kColumns + j;
          const __m512 g = widen(gates + at, x.unit[token + i], w1.scales() + n + j);
          const __m512 v = widen(values + at, x.unit[token + i], w3.scales() + n + j);
          _mm512_store_ps(to + j, _mm512_mul_ps(silu(g), v));
        }
      }
    }
  }
}

void modulate(const Modulation& m, int64_t token, const float* x, int64_t width, float* y) {
  const int64_t row = token % m.rows * m.stride;
  __m512 squares = _mm512_setzero_ps();
  for (int64_t n = 0; n < width; n += 16) {
    const __m512 v = _mm512_maskz_loadu_ps(first(width - n), x + n);
    squares = _mm512_fmadd_ps(v, v, squares);
  }
  const float square = _mm512_reduce_add_ps(squares) / static_cast<float>(width);
  const __m512 factor = _mm512_set1_ps(1.0f / std::sqrt(square + m.epsilon));
  for (int64_t n = 0; n < width; n += 16) {
    const __mmask16 mask = first(width - n);
    const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + n), factor);
    const __m512 weight = _mm512_maskz_loadu_ps(mask, m.weight + n);
    const __m512 scale = _mm512_maskz_loadu_ps(mask, m.scale + row + n);
    const __m512 shift = _mm512_maskz_loadu_ps(mask, m.shift + row + n);
    _mm512_mask_storeu_ps(y + n, mask,
                          _mm512_fmadd_ps(v, _mm512_fmadd_ps(weight, scale, weight), shift));
  }
}

// Vectors `stride` values apart as what W is multiplied with.
template <typename Kind>
Levels quantised(const float* x, int64_t stride, int64_t count, const Int8Matrix& w,
                 const Modulation& m = {}, int64_t begin = 0) {
  const int64_t whole = (count + kRows - 1) / kRows * kRows;
  Levels levels{w.padded_inputs(), scratch<int8_t, Kind>(whole * w.padded_inputs()),
                scratch<float, Kind>(whole)};
  float* modulated = scratch<float, struct ModulatedScratch>(w.padded_inputs());
  for (int64_t i = 0; i < count; ++i) {
    const float* vector = x + i * stride;
    if (m.weight != nullptr) modulate(m, begin + i, vector, w.inputs(), modulated);
    levels.quantise(i, m.weight != nullptr ? modulated : vector, w.inputs());
  }
  for (int64_t i = count; i < whole; ++i) levels.clear(i);
  return levels;
}

void normalise(const LayerNorm& norm, int64_t outputs, float* y) {
  const float count = static_cast<float>(outputs);
  __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
  for (int64_t n = 0; n < outputs; n += 16)
    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(first(outputs - n), y + n));
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / count);
  for (int64_t n = 0; n < outputs; n += 16) {
    const __mmask16 mask = first(outputs - n);
    const __m512 x = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, y + n), mean);
    squares = _mm512_fmadd_ps(x, x, squares);
  }
  const float variance = _mm512_reduce_add_ps(squares) / count;
  const __m512 factor = _mm512_set1_ps(1.0f / std::sqrt(variance + norm.epsilon));
  for (int64_t n = 0; n < outputs; n += 16) {
    const __mmask16 mask = first(outputs - n);
    const __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, y + n), mean);
    const __m512 weight = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, norm.weight + n), factor);
    const __m512 bias = _mm512_maskz_loadu_ps(mask, norm.bias + n);
    _mm512_mask_storeu_ps(y + n, mask, _mm512_fmadd_ps(x, weight, bias));
  }
}

// Every head of a token by the same angles, cos and sin (size / 2).
void rotate(const float* cos, const float* sin, int64_t size, int64_t outputs, float* y) {
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

void narrow(const float* wide, int64_t count, uint16_t* half) {
  for (int64_t n = 0; n < count; n += 16) {
    const __mmask16 mask = first(count - n);
    const __m512 x = _mm512_maskz_loadu_ps(mask, wide + n);
    _mm256_mask_storeu_epi16(half + n, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  }
}

void finish(const Product& p, int64_t token, float* y) {
  const int64_t outputs = p.weights->outputs(), pairs = p.rotary.size / 2;
  if (p.norm.weight != nullptr) normalise(p.norm, outputs, y);
  if (p.rotary.cos != nullptr)
    rotate(p.rotary.cos + token * pairs, p.rotary.sin + token * pairs, p.rotary.size, outputs, y);
  if (p.y == nullptr) narrow(y, outputs, p.half + token * outputs);
}

}  // namespace

void multiply_amx(const Linear& l, Tokens at) {
  const Tiles tiles;
  const Int8Matrix& w = *l.products[0].weights;
  const Levels x = quantised<struct InputScratch>(l.x + at.begin * w.inputs(), w.inputs(), at.count,
                                                  w, l.modulation, at.begin);
  for (const Product& p : l.products) {
    if (p.weights == nullptr) continue;
    const int64_t outputs = p.weights->outputs();
    float* y = p.y == nullptr ? scratch<float, struct WideScratch>(kBlock * outputs)
                              : p.y + at.begin * outputs;
    multiply_all(x, *p.weights, at, p.residual, y);
    for (int64_t i = 0; i < at.count; ++i) finish(p, at.begin + i, y + i * outputs);
  }
}

void feed_forward_amx(const FeedForward& f, Tokens at) {
  const Tiles tiles;
  const int64_t inputs = f.w1->inputs(), width = f.w1->padded_outputs();
  const Levels x = quantised<struct InputScratch>(f.x + at.begin * inputs, inputs, at.count, *f.w1,
                                                  f.modulation, at.begin);
  float* hidden = scratch<float, struct HiddenScratch>(kBlock * width);
  gate(x, *f.w1, *f.w3, at.count, hidden);
  const Levels h = quantised<struct GatedScratch>(hidden, width, at.count, *f.w2);
  multiply_all(h, *f.w2, at, f.residual, f.y + at.begin * f.w2->outputs());
}

}  // namespace flagdit
