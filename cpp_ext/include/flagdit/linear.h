// Products with int8 weights on a CPU, and what comes before and after them in a transformer block.
//
// A token's vector is quantised by itself, by its own largest magnitude, and multiplied in
// integers: what becomes of a token depends on no other. All else is f32.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace flagdit {

// Int8 weights (outputs, inputs) with one scale an output, laid out in the tiles that are
// multiplied: tile (n, k) holds outputs 16n .. 16n+15 of inputs 64k .. 64k+63, four inputs of one
// output side by side. Both sizes are padded with zeros, to 32 and 64.
class Int8Matrix {
 public:
  static constexpr int64_t kTile = 1024;
  static constexpr int64_t kMostOutputs = INT32_MAX;
  static constexpr int64_t kMostInputs = INT32_MAX / (128 * 127);  // whose sums an int32 holds

  // Refuses sizes that are not 1 up to those.
  Int8Matrix(const int8_t* weights, const float* scales, int64_t outputs, int64_t inputs);

  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  int64_t padded_outputs() const { return padded_outputs_; }
  int64_t padded_inputs() const { return padded_inputs_; }
  const float* scales() const { return scales_.data(); }  // (padded outputs)
  const int8_t* tiles(int64_t column) const {             // of 16 outputs
    return tiles_.data() + column * (padded_inputs_ / 64) * kTile;
  }
  int8_t at(int64_t output, int64_t input) const {
    return tiles(output /
                 16)[input / 64 * kTile + input % 64 / 4 * 64 + output % 16 * 4 + input % 4];
  }

 private:
  int64_t outputs_, inputs_, padded_outputs_, padded_inputs_;
  std::vector<float> scales_;
  std::vector<int8_t> tiles_;
};

// x becomes x / rms(x) * weight * (1 + scale) + shift: RMSNorm (Zhang & Sennrich 2019) and the
// modulation of adaLN (Peebles & Xie 2023); nothing without a weight. Token i has row i % rows.
struct Modulation {
  const float* weight = nullptr;  // (inputs)
  const float* scale = nullptr;   // rows of (inputs), `stride` values from one to the next
  const float* shift = nullptr;   // likewise; none is zeros
  int64_t rows = 1, stride = 0;
  float epsilon = 0.0f;
  bool centred = false;  // x less its mean first: LayerNorm (Ba et al. 2016)
};

// y becomes x + gate * y; nothing without x. Token i has gate i % rows.
struct Residual {
  const float* x = nullptr;     // (tokens, outputs)
  const float* gate = nullptr;  // rows of (outputs), `stride` values from one to the next
  int64_t rows = 1, stride = 0;
};

// Of all outputs of a token together, or of each of its heads: LayerNorm with a bias, RMSNorm
// without; nothing without a weight.
struct Norm {
  const float* weight = nullptr;  // (outputs), or (size)
  const float* bias = nullptr;    // likewise
  float epsilon = 0.0f;
  int64_t size = 0;  // of a head; 0: all outputs together
};

// Rotates adjacent pairs (2i, 2i+1) of every head (Su et al. 2021); nothing without cos.
struct Rotary {
  const float* cos = nullptr;  // (tokens, size / 2)
  const float* sin = nullptr;  // (tokens, size / 2)
  int64_t size = 0;            // of a head
};

// y = x W^T for y (tokens, outputs); then one after the other what is there.
struct Product {
  const Int8Matrix* weights = nullptr;
  float* y = nullptr;           // f32, or
  uint16_t* half = nullptr;     // bf16
  const float* bias = nullptr;  // (outputs)
  Norm norm{};
  Rotary rotary{};
  Residual residual{};
};

// Products of the same x (tokens, inputs), which is modulated first.
struct Linear {
  const float* x;
  int64_t tokens;
  Modulation modulation{};
  std::array<Product, 3> products{};  // those that have weights
};

// The feed-forward layer of a transformer block, of a modulated x: (silu(x W1^T) * x W3^T) W2^T,
// SwiGLU (Shazeer 2020); without W3 gelu(x W1^T + bias) W2^T, gelu by tanh (Hendrycks & Gimpel
// 2016). Then what `out` has besides; its weights are W2.
struct FeedForward {
  const float* x;
  int64_t tokens;
  const Int8Matrix* w1;
  const Int8Matrix* w3;         // or none
  const float* bias = nullptr;  // (outputs of W1); without W3
  Modulation modulation{};
  Product out{};  // f32
};

// Independent pieces of the work, for any threads. Sums are of integers and exact, with the CPU's
// tiles (amx.h) and without.
int64_t tasks_of(const Linear& l);
int64_t tasks_of(const FeedForward& f);
void run_linear(const Linear& l, int64_t task);
void run_feed_forward(const FeedForward& f, int64_t task);

}  // namespace flagdit
