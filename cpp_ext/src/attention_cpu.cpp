#include <cmath>
#include <limits>
#include <vector>

#include "attention_kernel.h"
#include "flagdit/bf16.h"

namespace flagdit {
namespace {

// One query of one head: the scores of all keys, their softmax, the mean of the values.
void attend(const Attention& a, const AttentionTask& t, int64_t at, std::vector<float>& scores) {
  const int64_t keys = a.head.count + a.tail.count;
  const float* bias = a.bias == nullptr ? nullptr : a.bias + t.row * keys;
  float largest = -std::numeric_limits<float>::infinity();
  for (int64_t slot = 0; slot < keys; ++slot) {
    const uint16_t* key = key_of(a, t, slot);
    float dot = 0.0f;
    for (int64_t i = 0; i < a.size; ++i) dot += a.query[at + i] * from_bf16(key[i]);
    scores[slot] = dot * a.scale + (bias == nullptr ? 0.0f : bias[slot]);
    largest = std::max(largest, scores[slot]);
  }
  float sum = 0.0f;
  for (float& score : scores) sum += score = std::exp(score - largest);
  float* out = a.out + at;
  std::fill(out, out + a.size, 0.0f);
  for (int64_t slot = 0; slot < keys; ++slot) {
    const float weight = scores[slot] / sum;
    const uint16_t* value = value_of(a, t, slot);
    for (int64_t i = 0; i < a.size; ++i) out[i] += weight * from_bf16(value[i]);
  }
  const Residual& r = a.residual;
  if (r.x == nullptr) return;
  const float* gate = r.gate + gate_at(a, at);
  for (int64_t i = 0; i < a.size; ++i) out[i] = r.x[at + i] + gate[i] * out[i];
}

}  // namespace

void attend_cpu(const Attention& a, const AttentionTask& t) {
  std::vector<float> scores(a.head.count + a.tail.count);
  const int64_t group = a.heads / a.kv_heads;
  for (int64_t query = t.begin; query < t.end; ++query)
    for (int64_t head = t.kv_head * group; head < (t.kv_head + 1) * group; ++head)
      attend(a, t, query_at(a, t, query, head), scores);
}

}  // namespace flagdit
