#include <cmath>
#include <vector>

#include "flagdit/bf16.h"
#include "linear_kernel.h"

namespace flagdit {
namespace {

// A vector of levels, and what a level is worth.
struct Quantised {
  std::vector<int8_t> levels;
  float unit;
};

Quantised quantise(const float* x, int64_t count) {
  float largest = kSmallest;
  for (int64_t k = 0; k < count; ++k) largest = std::max(largest, std::abs(x[k]));
  Quantised q{std::vector<int8_t>(count), largest / kLevels};
  const float factor = kLevels / largest;
  for (int64_t k = 0; k < count; ++k)
    q.levels[k] = static_cast<int8_t>(std::nearbyint(x[k] * factor));
  return q;
}

float product(const Quantised& x, const Int8Matrix& w, int64_t output) {
  int32_t sum = 0;
  for (int64_t k = 0; k < w.inputs(); ++k) sum += int32_t{x.levels[k]} * w.at(output, k);
  return static_cast<float>(sum) * (x.unit * w.scales()[output]);
}

void add_residual(const Residual& r, int64_t token, int64_t outputs, float* y) {
  if (r.x == nullptr) return;
  const float* gate = r.gate + token % r.rows * outputs;
  for (int64_t n = 0; n < outputs; ++n) y[n] = r.x[token * outputs + n] + gate[n] * y[n];
}

void normalise(const LayerNorm& norm, int64_t outputs, float* y) {
  if (norm.weight == nullptr) return;
  const float count = static_cast<float>(outputs);
  float mean = 0.0f, square = 0.0f;
  for (int64_t n = 0; n < outputs; ++n) mean += y[n] / count;
  for (int64_t n = 0; n < outputs; ++n) square += (y[n] - mean) * (y[n] - mean) / count;
  const float factor = 1.0f / std::sqrt(square + norm.epsilon);
  for (int64_t n = 0; n < outputs; ++n)
    y[n] = (y[n] - mean) * factor * norm.weight[n] + norm.bias[n];
}

void rotate(const Rotary& r, int64_t token, int64_t outputs, float* y) {
  if (r.cos == nullptr) return;
  for (int64_t n = 0; n < outputs; n += 2) {
    const int64_t at = token * r.size / 2 + n % r.size / 2;
    const float even = y[n], odd = y[n + 1];
    y[n] = even * r.cos[at] - odd * r.sin[at];
    y[n + 1] = even * r.sin[at] + odd * r.cos[at];
  }
}

}  // namespace

void multiply_cpu(const Linear& l, Tokens at) {
  const Int8Matrix& w = *l.weights;
  std::vector<float> wide(l.y == nullptr ? w.outputs() : 0);
  for (int64_t token = at.begin; token < at.begin + at.count; ++token) {
    const Quantised x = quantise(l.x + token * w.inputs(), w.inputs());
    float* y = l.y == nullptr ? wide.data() : l.y + token * w.outputs();
    for (int64_t n = 0; n < w.outputs(); ++n) y[n] = product(x, w, n);
    add_residual(l.residual, token, w.outputs(), y);
    normalise(l.norm, w.outputs(), y);
    rotate(l.rotary, token, w.outputs(), y);
    if (l.y == nullptr) std::transform(y, y + w.outputs(), l.half + token * w.outputs(), to_bf16);
  }
}

void feed_forward_cpu(const FeedForward& f, Tokens at) {
  std::vector<float> hidden(f.w1->outputs());
  for (int64_t token = at.begin; token < at.begin + at.count; ++token) {
    const Quantised x = quantise(f.x + token * f.w1->inputs(), f.w1->inputs());
    for (int64_t n = 0; n < f.w1->outputs(); ++n) {
      const float gate = product(x, *f.w1, n);
      hidden[n] = gate / (1.0f + std::exp(-gate)) * product(x, *f.w3, n);
    }
    const Quantised h = quantise(hidden.data(), f.w2->inputs());
    float* y = f.y + token * f.w2->outputs();
    for (int64_t n = 0; n < f.w2->outputs(); ++n) y[n] = product(h, *f.w2, n);
    add_residual(f.residual, token, f.w2->outputs(), y);
  }
}

void modulate_cpu(const Modulation& m, Tokens at) {
  for (int64_t token = at.begin; token < at.begin + at.count; ++token) {
    const float* x = m.x + token * m.width;
    const float* scale = m.scale + token % m.rows * m.width;
    const float* shift = m.shift + token % m.rows * m.width;
    float square = 0.0f;
    for (int64_t n = 0; n < m.width; ++n) square += x[n] * x[n] / static_cast<float>(m.width);
    const float factor = 1.0f / std::sqrt(square + m.epsilon);
    for (int64_t n = 0; n < m.width; ++n)
      m.y[token * m.width + n] = x[n] * factor * m.weight[n] * (1.0f + scale[n]) + shift[n];
  }
}

}  // namespace flagdit
