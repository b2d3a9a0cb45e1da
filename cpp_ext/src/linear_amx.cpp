// Products with int8 weights in tiles of int8, with int32 sums. What comes before and after
// (linear_vector.h) works on a token's vector while it is in the L1 or L2 cache.
#include "amx_tiles.h"
#include "linear_kernel.h"
#include "linear_vector.h"

namespace flagdit {
namespace {

constexpr int64_t kRows = 32;     // tokens that are multiplied at once, two tiles
constexpr int64_t kColumns = 32;  // outputs, likewise
// Inputs of 32 outputs that are multiplied with all tokens of a task before the next ones: 16 kB,
// which stay in the L1 cache beside as many of 32 tokens.
constexpr int64_t kChunk = 512;

constexpr int64_t whole(int64_t tokens) { return (tokens + kRows - 1) / kRows * kRows; }

__m512 magnitudes(const float* x, int64_t count) {
  __m512 largest = _mm512_set1_ps(kSmallest);
  for (int64_t k = 0; k < count; k += 16)
    largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_maskz_loadu_ps(first(count - k), x + k)));
  return largest;
}

// Vectors of tokens as int8, and what their levels are worth: whole tiles, tile (t, k) with inputs
// 64k .. 64k+63 of tokens 16t .. 16t+15.
struct Levels {
  int64_t width;  // a multiple of 64
  int8_t* values;
  float* unit;

  int8_t* at(int64_t token) const { return values + token / 16 * 16 * width + token % 16 * 64; }

  // x (count), whose largest magnitude is one of sixteen.
  void quantise(int64_t token, const float* x, int64_t count, __m512 largest) {
    const float most = _mm512_reduce_max_ps(largest);
    const __m512 factor = _mm512_set1_ps(kInt8Levels / most);
    int8_t* to = at(token);
    for (int64_t k = 0; k < width; k += 16) {
      const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(first(count - k), x + k), factor);
      _mm_store_si128(reinterpret_cast<__m128i*>(to + k / 64 * Int8Matrix::kTile + k % 64),
                      _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(scaled)));
    }
    unit[token] = most / kInt8Levels;
  }

  // What there is no token for is zero.
  void clear(int64_t token) {
    int8_t* to = at(token);
    for (int64_t k = 0; k < width; k += 64, to += Int8Matrix::kTile) std::fill(to, to + 64, 0);
    unit[token] = 0.0f;
  }
};

// Sums of `count` tokens by 32 outputs from `column` on: (count, 32), of whole tiles.
void multiply(const Levels& x, int64_t count, const Int8Matrix& w, int64_t column, int32_t* sums) {
  const int8_t* left = w.tiles(column / 16);
  const int8_t* right = w.tiles(column / 16 + 1);
  const int64_t chunks = (x.width + kChunk - 1) / kChunk;
  const int64_t chunk = (x.width / 64 + chunks - 1) / chunks * 64;  // all of about one size
  for (int64_t begin = 0; begin < x.width; begin += chunk) {
    const int64_t end = std::min(begin + chunk, x.width);
    for (int64_t token = 0; token < count; token += kRows) {
      const int8_t* upper = x.values + token * x.width;
      const int8_t* lower = upper + 16 * x.width;
      int32_t* to = sums + token * kColumns;
      fence();
      if (begin == 0)
        zero_sums();
      else
        load_sums(to, kColumns * sizeof(int32_t));
      for (int64_t k = begin; k < end; k += 64) {
        load_left(upper + 16 * k, lower + 16 * k, 64);
        load_right(left + 16 * k, right + 16 * k);
        multiply_int8();
      }
      store_sums(to, kColumns * sizeof(int32_t));
    }
  }
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
  alignas(64) int32_t sums[kMostBlock * kColumns];
  const float* gates[kMostBlock];
  const Int8Matrix& w = *p.weights;
  const bool adds = p.residual.x != nullptr && p.norm.weight == nullptr;
  for (int64_t i = 0; i < at.count && adds; ++i) gates[i] = gate_of(p.residual, at.begin + i);
  const int64_t outputs = w.outputs();
  for (int64_t n = 0; n < outputs; n += kColumns) {
    multiply(x, at.count, w, n, sums);
    for (int64_t i = 0; i < at.count; ++i) {
      for (int64_t j = n; j < n + kColumns; j += 16) {
        const __mmask16 mask = first(outputs - j);
        __m512 out = widen(sums + i * kColumns + j - n, x.unit[i], w.scales() + j);
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

// The hidden layer of a feed-forward: (count, padded outputs of W1), and of every token the largest
// magnitudes of every sixteenth number, (count).
void hide(const Levels& x, const FeedForward& f, int64_t count, float* hidden, __m512* largest) {
  alignas(64) int32_t gates[kMostBlock * kColumns], values[kMostBlock * kColumns];
  const Int8Matrix& w1 = *f.w1;
  for (int64_t n = 0; n < w1.outputs(); n += kColumns) {
    multiply(x, count, w1, n, gates);
    if (f.w3 != nullptr) multiply(x, count, *f.w3, n, values);
    for (int64_t i = 0; i < count; ++i) {
      float* to = hidden + i * w1.padded_outputs() + n;
      __m512 most = n == 0 ? _mm512_set1_ps(kSmallest) : largest[i];
      for (int64_t j = 0; j < kColumns; j += 16) {
        const int64_t at = i * kColumns + j;
        __m512 g = widen(gates + at, x.unit[i], w1.scales() + n + j);
        if (f.bias != nullptr)
          g = _mm512_add_ps(g, _mm512_maskz_loadu_ps(first(w1.outputs() - n - j), f.bias + n + j));
        const __m512 made =
            f.w3 == nullptr
                ? gelu(g)
                : _mm512_mul_ps(silu(g), widen(values + at, x.unit[i], f.w3->scales() + n + j));
        most = _mm512_max_ps(most, _mm512_abs_ps(made));
        _mm512_store_ps(to + j, made);
      }
      largest[i] = most;
    }
  }
}

// Memory for `count` tokens as what W is multiplied with, those that fill up tiles being zero.
template <typename Kind>
Levels levels_of(const Int8Matrix& w, int64_t count) {
  Levels levels{w.padded_inputs(), scratch<int8_t, Kind>(whole(count) * w.padded_inputs()),
                scratch<float, Kind>(whole(count))};
  for (int64_t i = count; i < whole(count); ++i) levels.clear(i);
  return levels;
}

// Tokens of x (tokens, inputs), modulated.
Levels quantised(const float* x, const Int8Matrix& w, const Modulation& m, Tokens at) {
  Levels levels = levels_of<struct InputScratch>(w, at.count);
  float* modulated = scratch<float, struct ModulatedScratch>(w.padded_inputs());
  for (int64_t i = 0; i < at.count; ++i) {
    const float* vector = x + (at.begin + i) * w.inputs();
    if (m.weight != nullptr) {
      modulate(m, at.begin + i, vector, w.inputs(), modulated);
      vector = modulated;
    }
    levels.quantise(i, vector, w.inputs(), magnitudes(vector, w.inputs()));
  }
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
  float* y = p.y == nullptr ? scratch<float, struct WideScratch>(at.count * outputs)
                            : p.y + at.begin * outputs;
  multiply_all(x, p, at, y);
  for (int64_t i = 0; i < at.count; ++i) finish(p, at.begin + i, y + i * outputs);
}

}  // namespace

void multiply_amx(const Linear& l, Tokens at) {
  const Tiles tiles;
  const Levels x = quantised(l.x, *l.products[0].weights, l.modulation, at);
  for (const Product& p : l.products)
    if (p.weights != nullptr) multiply_and_finish(x, p, at);
}

void feed_forward_amx(const FeedForward& f, Tokens at) {
  const Tiles tiles;
  const Int8Matrix& w2 = *f.out.weights;
  const int64_t width = f.w1->padded_outputs();
  float* hidden = scratch<float, struct HiddenScratch>(at.count * width);
  __m512* largest = scratch<__m512, struct LargestScratch>(at.count);
  hide(quantised(f.x, *f.w1, f.modulation, at), f, at.count, hidden, largest);
  Levels h = levels_of<struct GatedScratch>(w2, at.count);
  for (int64_t i = 0; i < at.count; ++i) h.quantise(i, hidden + i * width, w2.inputs(), largest[i]);
  multiply_and_finish(h, f.out, at);
}

}  // namespace flagdit
