// Attention in tiles of bf16, with f32 sums: an online softmax (Milakov & Gimelshein 2018) over
// blocks of keys, in the manner of FlashAttention (Dao 2022).
//
// Scores are computed transposed, keys by queries, so that a vector register holds one key's scores
// of 16 queries: maxima and sums over keys need no shuffles, the bias of a key is one number, and
// the weights are already in the order that the second product reads.
#include "amx_tiles.h"
#include "attention_packed.h"

namespace flagdit {
namespace {

constexpr int64_t kKeys = 128;  // a block of keys: its scores stay in the L1 cache

// Keys and values of one pair.
struct Operands {
  Operands(const Packed& p, const AttentionTask& t, int64_t kv_heads, float scale)
      : keys(p.keys),
        width(p.width),
        key(p.key + (t.row * kv_heads + t.kv_head) * p.keys * p.width),
        value(p.value + (t.row * kv_heads + t.kv_head) * p.keys / 2 * p.width),
        bias(p.bias + t.row * p.keys),
        factor(scale * kLog2e) {}

  int64_t keys, width;    // padded
  const uint16_t* key;    // (keys, width)
  const uint32_t* value;  // (keys / 32, width, 16 pairs of keys)
  const float* bias;      // (keys), in units of log2
  float factor;           // of scores, to those units
};

// What a block of 32 queries of one head accumulates.
struct Block {
  explicit Block(int64_t width)
      : query(scratch<uint32_t, struct QueryScratch>(width / 2 * kQueries)),
        score(scratch<float, struct ScoreScratch>(kKeys * kQueries)),
        weight(scratch<uint32_t, struct WeightScratch>(kKeys / 2 * kQueries)),
        out(scratch<float, struct OutScratch>(width * kQueries)) {}

  uint32_t* query;   // (2, width / 2, 16 queries): pairs of channels
  float* score;      // (kKeys, 32 queries)
  uint32_t* weight;  // (2, kKeys / 2, 16 queries): pairs of keys
  float* out;        // (width, 32 queries)
  __m512 largest[2], sum[2];
  int64_t halves = 2;  // of the block that there are queries for; the other's numbers mean nothing
};

// Query rows as the right operand.
void load_queries(const Attention& a, const AttentionTask& t, int64_t begin, int64_t head,
                  int64_t width, Block& block) {
  for (int64_t half = 0; half < 2; ++half) {
    for (int64_t c = 0; c < width; c += 32) {
      __m512i pairs[16];  // of channels
      for (int64_t i = 0; i < 16; ++i) {
        const int64_t query = begin + 16 * half + i;
        const bool there = query < t.end;
        const float* q = there ? a.query + query_at(a, t, query, head) + c : nullptr;
        const __mmask16 low = there ? first(a.size - c) : __mmask16(0);
        const __mmask16 high = there ? first(a.size - c - 16) : __mmask16(0);
        const __m512 x = _mm512_maskz_loadu_ps(low, q);
        const __m512 y = _mm512_maskz_loadu_ps(high, high != 0 ? q + 16 : q);
        pairs[i] = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(y, x));
      }
      transpose(pairs);
      uint32_t* to = block.query + (half * width + c) / 2 * 16;
      for (int64_t pair = 0; pair < 16; ++pair) _mm512_store_si512(to + 16 * pair, pairs[pair]);
    }
  }
}

// Scores of 32 keys from `key` on: (32 keys, 32 queries).
void multiply_scores(const Operands& of, const Block& block, int64_t key, float* score) {
  const int64_t width = of.width;
  const uint16_t* keys = of.key + key * width;
  const uint32_t* queries = block.query;
  fence();
  zero_sums();
  for (int64_t c = 0; c < width; c += 32) {
    load_left(keys + c, keys + 16 * width + c, 2 * width);
    load_right(queries + c / 2 * 16, queries + (width + c) / 2 * 16);
    multiply_bf16();
  }
  store_sums(score, kQueries * sizeof(float));
}

// The larger of the old maxima and those of `keys` scores from `first_key` on.
void find_largest(const Operands& of, int64_t first_key, int64_t keys, const Block& block,
                  __m512 (&largest)[2]) {
  const __m512 factor = _mm512_set1_ps(of.factor);
  const float* bias = of.bias + first_key;
  for (int64_t half = 0; half < block.halves; ++half) {
    __m512 most = block.largest[half];
    for (int64_t key = 0; key < keys; ++key) {
      const __m512 score = _mm512_load_ps(block.score + key * kQueries + 16 * half);
      most = _mm512_max_ps(most, _mm512_fmadd_ps(score, factor, _mm512_set1_ps(bias[key])));
    }
    largest[half] = most;
  }
}

// Makes weights of those scores: pairs of keys as bf16. Adds them up.
void exponentiate(const Operands& of, int64_t first_key, int64_t keys, Block& block) {
  const __m512 factor = _mm512_set1_ps(of.factor);
  const float* bias = of.bias + first_key;
  for (int64_t half = 0; half < block.halves; ++half) {
    const __m512 largest = block.largest[half];
    const auto weight = [&](int64_t key) {
      const __m512 score = _mm512_load_ps(block.score + key * kQueries + 16 * half);
      const __m512 less = _mm512_sub_ps(largest, _mm512_set1_ps(bias[key]));
      return exp2(_mm512_fmsub_ps(score, factor, less));
    };
    __m512 sum = block.sum[half];
    for (int64_t key = 0; key < keys; key += 2) {
      const __m512 a = weight(key), b = weight(key + 1);
      sum = _mm512_add_ps(sum, _mm512_add_ps(a, b));
      _mm512_store_si512(block.weight + (half * kKeys + key) / 2 * 16, bf16_pairs(a, b));
    }
    block.sum[half] = sum;
  }
}

// The sums so far were over a smaller maximum; often it is the same, and nothing is to be done.
void rescale(int64_t width, const __m512 (&largest)[2], Block& block) {
  for (int64_t half = 0; half < block.halves; ++half) {
    const __m512 before = block.largest[half];
    block.largest[half] = largest[half];
    if (_mm512_cmp_ps_mask(before, largest[half], _CMP_NEQ_OQ) == 0) continue;
    const __m512 factor = exp2(_mm512_sub_ps(before, largest[half]));
    block.sum[half] = _mm512_mul_ps(block.sum[half], factor);
    for (int64_t c = 0; c < width; ++c) {
      float* out = block.out + c * kQueries + 16 * half;
      _mm512_store_ps(out, _mm512_mul_ps(_mm512_load_ps(out), factor));
    }
  }
}

// Adds the weighted values of `keys` keys from `key` on.
void multiply_values(const Operands& of, int64_t key, int64_t keys, Block& block) {
  constexpr int64_t kStride = kQueries * sizeof(float);
  const uint32_t* weights = block.weight;
  for (int64_t c = 0; c < of.width; c += 32) {
    float* out = block.out + c * kQueries;
    fence();
    if (key == 0)
      zero_sums();
    else
      load_sums(out, kStride);
    for (int64_t at = 0; at < keys; at += 32) {
      const uint32_t* values = of.value + (key + at) / 2 * of.width + 16 * c;
      load_left(values, values + 256, 64);
      load_right(weights + at / 2 * 16, weights + (kKeys + at) / 2 * 16);
      multiply_bf16();
    }
    store_sums(out, kStride);
  }
}

// Means of the values: (channel, query) -> (query,
// channel). With a gate (H * d), adds gate * means.
void store(const Attention& a, const AttentionTask& t, int64_t begin, int64_t head,
           const float* gate, const Block& block) {
  for (int64_t half = 0; half < block.halves; ++half) {
    const __m512 share = _mm512_div_ps(_mm512_set1_ps(1.0f), block.sum[half]);
    for (int64_t c = 0; c < a.size; c += 16) {
      const __mmask16 mask = first(a.size - c);
      __m512i means[16];
      for (int64_t i = 0; i < 16; ++i) {
        const float* out = block.out + (c + i) * kQueries + 16 * half;
        means[i] = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(out), share));
      }
      transpose(means);
      for (int64_t i = 0; i < std::min<int64_t>(16, t.end - begin - 16 * half); ++i) {
        const int64_t at = query_at(a, t, begin + 16 * half + i, head);
        __m512 out = _mm512_castsi512_ps(means[i]);
        if (gate != nullptr) {
          const __m512 by = _mm512_maskz_loadu_ps(mask, gate + head * a.size + c);
          out = _mm512_fmadd_ps(by, out, _mm512_maskz_loadu_ps(mask, a.out + at + c));
        }
        _mm512_mask_storeu_ps(a.out + at + c, mask, out);
      }
    }
  }
}

void attend(const Operands& of, Block& block) {
  for (int64_t half = 0; half < 2; ++half) {
    block.largest[half] = _mm512_set1_ps(kAbsent);
    block.sum[half] = _mm512_setzero_ps();
  }
  for (int64_t key = 0; key < of.keys; key += kKeys) {
    const int64_t keys = std::min(kKeys, of.keys - key);
    for (int64_t at = 0; at < keys; at += 32)
      multiply_scores(of, block, key + at, block.score + at * kQueries);
    __m512 largest[2];
    find_largest(of, key, keys, block, largest);
    if (key == 0)
      std::copy(largest, largest + block.halves, block.largest);
    else
      rescale(of.width, largest, block);
    exponentiate(of, key, keys, block);
    multiply_values(of, key, keys, block);
  }
}

}  // namespace

void attend_amx(const Attention& a, const AttentionTask& t) {
  const Tiles tiles;
  const Operands tokens(packed_tokens(a), t, a.kv_heads, a.tokens.scale);
  const Operands text(packed_text(a), t, a.kv_heads, a.text.scale);
  Block block(tokens.width);
  const int64_t group = a.heads / a.kv_heads;
  for (int64_t head = t.kv_head * group; head < (t.kv_head + 1) * group; ++head) {
    for (int64_t begin = t.begin; begin < t.end; begin += kQueries) {
      block.halves = t.end - begin > 16 ? 2 : 1;
      load_queries(a, t, begin, head, tokens.width, block);
      attend(tokens, block);
      store(a, t, begin, head, nullptr, block);
      if (text.keys == 0) continue;
      attend(text, block);
      store(a, t, begin, head, a.text_gate, block);
    }
  }
}

}  // namespace flagdit
