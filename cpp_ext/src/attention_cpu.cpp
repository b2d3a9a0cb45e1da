#include <cmath>
#include <limits>
#include <vector>

#include "attention_kernel.h"
#include "flagdit/bf16.h"

namespace flagdit {
namespace {

// One query (d,) of one head: the scores of all keys, their softmax, the mean of the values (d,).
void attend(const Attention& a, const Attended& to, const AttentionTask& t, const float* query,
            std::vector<float>& scores, float* mean) {
  scores.resize(to.count());
  float largest = -std::numeric_limits<float>::infinity();
  for (int64_t slot = 0; slot < to.count(); ++slot) {
    const uint16_t* key = key_of(to, t.row, t.kv_head, slot);
    float dot = 0.0f;
    for (int64_t i = 0; i < a.size; ++i) dot += query[i] * from_bf16(key[i]);
    scores[slot] = dot * to.scale;
    if (to.bias != nullptr) scores[slot] += to.bias[t.row * to.count() + slot];
    largest = std::max(largest, scores[slot]);
  }
  float sum = 0.0f;
  for (float& score : scores) sum += score = std::exp(score - largest);
  std::fill(mean, mean + a.size, 0.0f);
  for (int64_t slot = 0; slot < to.count(); ++slot) {
    const float weight = scores[slot] / sum;
    const uint16_t* value = value_of(to, t.row, t.kv_head, slot);
    for (int64_t i = 0; i < a.size; ++i) mean[i] += weight * from_bf16(value[i]);
  }
}

}  // namespace

void attend_cpu(const Attention& a, const AttentionTask& t) {
  std::vector<float> scores, text(a.size);
  const int64_t group = a.heads / a.kv_heads;
  for (int64_t query = t.begin; query < t.end; ++query) {
    for (int64_t head = t.kv_head * group; head < (t.kv_head + 1) * group; ++head) {
      const int64_t at = query_at(a, t, query, head);
      attend(a, a.tokens, t, a.query + at, scores, a.out + at);
      if (a.text.count() == 0) continue;
      attend(a, a.text, t, a.query + at, scores, text.data());
      const float* gate = a.text_gate + head * a.size;
      for (int64_t i = 0; i < a.size; ++i) a.out[at + i] += gate[i] * text[i];
    }
  }
}

}  // namespace flagdit
