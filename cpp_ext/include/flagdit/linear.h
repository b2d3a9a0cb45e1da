// Products with int8 weights on a CPU, and what comes before and after them in a transformer block.
//
// A token's vector is quantised by itself, by its own largest magnitude, and multiplied in
// integers: what becomes of a token depends on no other. All else is f32.
#pragma once

#include <cstdint>
#include <vector>

namespace flagdit {

// Int8 weights (outputs, inputs) with one scale an output, laid out in the tiles that are
// multiplied: tile (n, k) holds outputs 16n .. 16n+15 of inputs 64k .. 64k+63, four inputs of one
// output side by side. Both sizes are padded with zeros, to 32 and 64.
class Int8Matrix {
 public:
  static constexpr int64_t kTile = 1024;

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

// y becomes x + gate * y; nothing without x. Token i has gate i % rows.
struct Residual {
  const float* x = nullptr;     // (tokens, outputs)
  const float* gate = nullptr;  // (rows, outputs)
  int64_t rows = 1;
};

// LayerNorm over all outputs of a token (Ba et al. 2016); nothing without a weight.
struct LayerNorm {
  const float* weight = nullptr;  // (outputs)
  const float* bias = nullptr;    // (outputs)
  float epsilon = 0.0f;
};

// Rotates adjacent pairs (2i, 2i+1) of every head (Su et al. 2021); nothing without cos.
struct Rotary {
  const float* cos = nullptr;  // (tokens, size / 2)
  const float* sin = nullptr;  // (tokens, size / 2)
  int64_t size = 0;            // of a head
};

// y = x W^T for x (tokens, inputs) and y (tokens, outputs); then one after the other what is there.
struct Linear {
  const float* x;
  const Int8Matrix* weights;
  float* y;  // or null, and then y is bf16
  int64_t tokens;
  uint16_t* half = nullptr;
  Residual residual{};
  LayerNorm norm{};
  Rotary rotary{};
};

// y = (silu(x W1^T) * x W3^T) W2^T, the SwiGLU of a transformer block (Shazeer 2020).
struct FeedForward {
  const float* x;
  const Int8Matrix* w1;
  const Int8Matrix* w2;
  const Int8Matrix* w3;
  float* y;
  int64_t tokens;
  Residual residual{};
};

// y = x / rms(x) * weight * (1 + scale) + shift: RMSNorm (Zhang & Sennrich 2019) and the modulation
// of adaLN (Peebles & Xie 2023). Token i has row i % rows.
struct Modulation {
  const float* x;       // (tokens, width)
  const float* weight;  // (width)
  const float* scale;   // (rows, width)
  const float* shift;   // (rows, width)
  float* y;             // (tokens, width)
  int64_t tokens, width, rows;
  float epsilon;
};

// Independent pieces of the work, for any threads. With and without the CPU's tiles (amx.h) the
// integers are the same.
int64_t linear_tasks(int64_t tokens);
void run_linear(const Linear& l, int64_t task);
void run_feed_forward(const FeedForward& f, int64_t task);
void run_modulation(const Modulation& m, int64_t task);

}  // namespace flagdit
