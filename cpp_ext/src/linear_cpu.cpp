#include <cmath>
#include <vector>

#include "flagdit/bf16.h"
#include "linear_kernel.h"

namespace flagdit {
namespace {

// A token's vector with its modulation.
std::vector<float> modulated(const Modulation& m, const float* x, int64_t token, int64_t width) {
  std::vector<float> y(x + token * width, x + (token + 1) * width);
  if (m.weight == nullptr) return y;
  const int64_t row = token % m.rows * m.stride;
  float mean = 0.0f, square = 0.0f;
  for (const float v : y) mean += m.centred ? v / static_cast<float>(width) : 0.0f;
  for (float& v : y) v -= mean;
  for (const float v : y) square += v * v / static_cast<float>(width);
  const float factor = 1.0f / std::sqrt(square + m.epsilon);
  for (int64_t n = 0; n < width; ++n)
    y[n] = y[n] * factor * m.weight[n] * (1.0f + m.scale[row + n]) +
           (m.shift == nullptr ? 0.0f : m.shift[row + n]);
  return y;
}

// A vector of levels, and what a level is worth.
struct Quantised {
  std::vector<int8_t> levels;
  float unit;
};

// The nearest level. What is no number has none: it is 0.
int8_t level(float x) {
  return std::abs(x) < kInt8Levels + 0.5f ? static_cast<int8_t>(std::nearbyint(x)) : int8_t{0};
}

Quantised quantise(const std::vector<float>& x) {
  float largest = kSmallest;
  for (const float v : x) largest = std::max(largest, std::abs(v));
  Quantised q{std::vector<int8_t>(x.size()), largest / kInt8Levels};
  const float factor = kInt8Levels / largest;
  for (size_t k = 0; k < x.size(); ++k) q.levels[k] = level(x[k] * factor);
  return q;
}

float product_of(const Quantised& x, const Int8Matrix& w, int64_t output) {
  int32_t sum = 0;
  for (int64_t k = 0; k < w.inputs(); ++k) sum += int32_t{x.levels[k]} * w.at(output, k);
  return static_cast<float>(sum) * (x.unit * w.scales()[output]);
}

void add_residual(const Residual& r, int64_t token, int64_t outputs, float* y) {
  if (r.x == nullptr) return;
  const float* gate = r.gate + token % r.rows * r.stride;
  for (int64_t n = 0; n < outputs; ++n) y[n] = r.x[token * outputs + n] + gate[n] * y[n];
}

void normalise(const Norm& norm, int64_t outputs, float* y) {
  if (norm.weight == nullptr) return;
  const int64_t size = norm.size == 0 ? outputs : norm.size;
  const float count = static_cast<float>(size);
  for (float* const end = y + outputs; y < end; y += size) {
    float mean = 0.0f, square = 0.0f;
    for (int64_t n = 0; n < size && norm.bias != nullptr; ++n) mean += y[n] / count;
    for (int64_t n = 0; n < size; ++n) square += (y[n] - mean) * (y[n] - mean) / count;
    const float factor = 1.0f / std::sqrt(square + norm.epsilon);
    for (int64_t n = 0; n < size; ++n)
      y[n] = (y[n] - mean) * factor * norm.weight[n] + (norm.bias == nullptr ? 0.0f : norm.bias[n]);
  }
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

// By tanh: x / (1 + exp(-2 u)).
float gelu(float x) { return x / (1.0f + std::exp(-kGelu * (x + kGeluCube * x * x * x))); }

void multiply(const Quantised& x, const Product& p, int64_t token) {
  const Int8Matrix& w = *p.weights;
  const int64_t outputs = w.outputs();
  std::vector<float> wide(p.y == nullptr ? outputs : 0);
  float* y = p.y == nullptr ? wide.data() : p.y + token * outputs;
  for (int64_t n = 0; n < outputs; ++n)
    y[n] = product_of(x, w, n) + (p.bias == nullptr ? 0.0f : p.bias[n]);
  normalise(p.norm, outputs, y);
  rotate(p.rotary, token, outputs, y);
  add_residual(p.residual, token, outputs, y);
  if (p.y == nullptr) std::transform(y, y + outputs, p.half + token * outputs, to_bf16);
}

}  // namespace

void multiply_cpu(const Linear& l, Tokens at) {
  const int64_t inputs = l.products[0].weights->inputs();
  for (int64_t token = at.begin; token < at.begin + at.count; ++token) {
    const Quantised x = quantise(modulated(l.modulation, l.x, token, inputs));
    for (const Product& p : l.products)
      if (p.weights != nullptr) multiply(x, p, token);
  }
}

void feed_forward_cpu(const FeedForward& f, Tokens at) {
  std::vector<float> hidden(f.w1->outputs());
  for (int64_t token = at.begin; token < at.begin + at.count; ++token) {
    const Quantised x = quantise(modulated(f.modulation, f.x, token, f.w1->inputs()));
    for (int64_t n = 0; n < f.w1->outputs(); ++n) {
      const float gate = product_of(x, *f.w1, n) + (f.bias == nullptr ? 0.0f : f.bias[n]);
      hidden[n] =
          f.w3 == nullptr ? gelu(gate) : gate / (1.0f + std::exp(-gate)) * product_of(x, *f.w3, n);
    }
    multiply(quantise(hidden), f.out, token);
  }
}

}  // namespace flagdit
