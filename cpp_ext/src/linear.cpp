#include "flagdit/linear.h"

#include <algorithm>
#include <thread>

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

int64_t bytes(const Int8Matrix* w) {
  return w == nullptr ? 0 : w->padded_outputs() * w->padded_inputs();
}

// Bytes of the largest matrix.
int64_t largest(const Linear& l) {
  int64_t most = 0;
  for (const Product& p : l.products) most = std::max(most, bytes(p.weights));
  return most;
}

int64_t largest(const FeedForward& f) { return std::max(bytes(f.w1), bytes(f.out.weights)); }

// Tokens of a task, for all of which the weights are read once. Those of a small matrix stay in a
// core's L2 cache from task to task; those of a large one do not, so its tasks are larger, as long as
// there is one for every core.
int64_t block_of(int64_t tokens, int64_t weights) {
  constexpr int64_t kCached = 1 << 20;
  static const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  int64_t block = kLeastBlock;
  while (weights > kCached && block < kMostBlock && tokens / cores >= 2 * block) block *= 2;
  return block;
}

int64_t tasks(int64_t tokens, int64_t weights) {
  const int64_t block = block_of(tokens, weights);
  return tokens / block + (tokens % block != 0);
}

Tokens tokens_at(int64_t tokens, int64_t weights, int64_t task) {
  const int64_t block = block_of(tokens, weights);
  return {task * block, std::min(block, tokens - task * block)};
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

int64_t tasks_of(const Linear& l) { return tasks(l.tokens, largest(l)); }

int64_t tasks_of(const FeedForward& f) { return tasks(f.tokens, largest(f)); }

void run_linear(const Linear& l, int64_t task) {
  (has_amx() ? multiply_amx : multiply_cpu)(l, tokens_at(l.tokens, largest(l), task));
}

void run_feed_forward(const FeedForward& f, int64_t task) {
  (has_amx() ? feed_forward_amx : feed_forward_cpu)(f, tokens_at(f.tokens, largest(f), task));
}

}  // namespace flagdit
