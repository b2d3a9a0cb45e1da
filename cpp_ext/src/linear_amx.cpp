// Products with int8 weights in tiles of int8, with int32 sums. What comes before and after
// (linear_vector.h) works on a token's vector while it is in the L1 or L2 cache.
#include "amx_tiles.h"
#include "linear_kernel.h"
#include "linear_vector.h"

namespace flagdit {
namespace {

constexpr int64_t kRows = 32;     // tokens that are multiplied at once, two tiles
constexpr int64_t kColumns = 32;  // outputs, likewise

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
    const __m512 factor = _mm512_set1_ps(kInt8Levels / most);
    int8_t* to = values + token * width;
    for (int64_t k = 0; k < width; k += 16) {
      const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(first(count - k), x + k), factor);
      _mm_store_si128(reinterpret_cast<__m128i*>(to + k),
                      _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(scaled)));
    }
    unit[token] = most / kInt8Levels;
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

const float* gate_of(const Residual& r, int64_t token) {
  return r.gate + token % r.rows * r.stride;
}

// y (count, outputs) of the first `count` tokens, the first of which is token `begin` of the
// residual: what of the product needs no other output of a token.
void multiply_all(const Levels& x, const Product& p, Tokens at, float* y) {
  alignas(64) int32_t sums[kRows * kColumns];
  const float* gates[kBlock];
  const Int8Matrix& w = *p.weights;
  const bool adds = p.residual.x != nullptr && p.norm.weight == nullptr;
  for (int64_t i = 0; i < at.count && adds; ++i) gates[i] = gate_of(p.residual, at.begin + i);
  const int64_t outputs = w.outputs();
  for (int64_t n = 0; n < outputs; n += kColumns) {
    for (int64_t block = 0; block < at.count; block += kRows) {
      multiply(x, block, w, n, sums);
      for (int64_t i = block; i < std::min(block + kRows, at.count); ++i) {
        for (int64_t j = n; j < n + kColumns; j += 16) {
          const __mmask16 mask = first(outputs - j);
          __m512 out = widen(sums + (i - block) * kColumns + j - n, x.unit[i], w.scales() + j);
          if (p.bias != nullptr) out = _mm512_add_ps(out, _mm512_maskz_loadu_ps(mask, p.bias + j));
          if (adds) {
            const float* to = p.residual.x + (at.begin + i) * outputs + j;
            out = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, gates[i] + j), out,
                                  _mm512_maskz_loadu_ps(mask, to));
          }
          _mm512_mask_storeu_ps(y + i * outputs + j, mask, out);
        }
      }
    }
  }
}

// The hidden layer of a feed-forward: (count, padded outputs of W1).
void hide(const Levels& x, const FeedForward& f, int64_t count, float* hidden) {
  alignas(64) int32_t gates[kRows * kColumns], values[kRows * kColumns];
  const Int8Matrix& w1 = *f.w1;
  for (int64_t n = 0; n < w1.outputs(); n += kColumns) {
    for (int64_t token = 0; token < count; token += kRows) {
      multiply(x, token, w1, n, gates);
      if (f.w3 != nullptr) multiply(x, token, *f.w3, n, values);
      for (int64_t i = 0; i < std::min(kRows, count - token); ++i) {
        float* to = hidden + (token + i) * w1.padded_outputs() + n;
        for (int64_t j = 0; j < kColumns; j += 16) {
          const int64_t at = i * kColumns + j;
          __m512 g = widen(gates + at, x.unit[token + i], w1.scales() + n + j);
          if (f.bias != nullptr)
            g = _mm512_add_ps(g,
                              _mm512_maskz_loadu_ps(first(w1.outputs() - n - j), f.bias + n + j));
          const __m512 made = f.w3 == nullptr
                                  ? gelu(g)
                                  : _mm512_mul_ps(silu(g), widen(values + at, x.unit[token + i],
                                                                 f.w3->scales() + n + j));
          _mm512_store_ps(to + j, made);
        }
      }
    }
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

// What needs all outputs of a token.
void finish(const Product& p, int64_t token, float* y) {
  const int64_t outputs = p.weights->outputs(), pairs = p.rotary.size / 2;
  if (p.norm.weight != nullptr) normalise(p.norm, outputs, y);
  if (p.rotary.cos != nullptr)
    rotate(p.rotary.cos + token * pairs, p.rotary.sin + token * pairs, p.rotary.size, outputs, y);
  if (p.norm.weight != nullptr && p.residual.x != nullptr)
    add_residual(p.residual.x + token * outputs, gate_of(p.residual, token), outputs, y);
  if (p.y == nullptr) narrow(y, outputs, p.half + token * outputs);
}

void multiply_and_finish(const Levels& x, const Product& p, Tokens at) {
  const int64_t outputs = p.weights->outputs();
  float* y = p.y == nullptr ? scratch<float, struct WideScratch>(kBlock * outputs)
                            : p.y + at.begin * outputs;
  multiply_all(x, p, at, y);
  for (int64_t i = 0; i < at.count; ++i) finish(p, at.begin + i, y + i * outputs);
}

}  // namespace

void multiply_amx(const Linear& l, Tokens at) {
  const Tiles tiles;
  const Int8Matrix& w = *l.products[0].weights;
  const Levels x = quantised<struct InputScratch>(l.x + at.begin * w.inputs(), w.inputs(), at.count,
                                                  w, l.modulation, at.begin);
  for (const Product& p : l.products)
    if (p.weights != nullptr) multiply_and_finish(x, p, at);
}

void feed_forward_amx(const FeedForward& f, Tokens at) {
  const Tiles tiles;
  const int64_t inputs = f.w1->inputs(), width = f.w1->padded_outputs();
  const Levels x = quantised<struct InputScratch>(f.x + at.begin * inputs, inputs, at.count, *f.w1,
                                                  f.modulation, at.begin);
  float* hidden = scratch<float, struct HiddenScratch>(kBlock * width);
  hide(x, f, at.count, hidden);
  const Levels h = quantised<struct GatedScratch>(hidden, width, at.count, *f.out.weights);
  multiply_and_finish(h, f.out, at);
}

}  // namespace flagdit
