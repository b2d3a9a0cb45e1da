#include "flagdit/linear.h"

#include "flagdit/amx.h"
#include "flagdit/checked.h"
#include "linear_kernel.h"

namespace flagdit {
namespace {

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t within(const char* what, int64_t size, int64_t most) {
  check_range(what, size, 1, most);
  return size;
}

}  // namespace

Int8Matrix::Int8Matrix(const int8_t* weights, const float* scales, int64_t outputs, int64_t inputs)
    : outputs_(within("Int8Matrix: outputs", outputs, kMostOutputs)),
      inputs_(within("Int8Matrix: inputs", inputs, kMostInputs)),
      padded_outputs_(round_up(outputs, 32)),
      padded_inputs_(round_up(inputs, 64)),
      scales_(padded_outputs_, 0.0f),
      tiles_(padded_outputs_ * padded_inputs_, 0) {
  std::copy(scales, scales + outputs, scales_.begin());
  for (int64_t n = 0; n < outputs; ++n)
    for (int64_t k = 0; k < inputs; ++k)
      tiles_[n / 16 * 16 * padded_inputs_ + k / 64 * kTile + k % 64 / 4 * 64 + n % 16 * 4 + k % 4] =
          weights[n * inputs + k];
}

int64_t linear_tasks(int64_t tokens) { return tokens / kBlock + (tokens % kBlock != 0); }

void run_linear(const Linear& l, int64_t task) {
  (has_amx() ? multiply_amx : multiply_cpu)(l, tokens_of(l.tokens, task));
}

void run_feed_forward(const FeedForward& f, int64_t task) {
  (has_amx() ? feed_forward_amx : feed_forward_cpu)(f, tokens_of(f.tokens, task));
}

}  // namespace flagdit
