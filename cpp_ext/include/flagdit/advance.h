// One pass over the slots after an engine call: guidance on the head, the solver's update
// everywhere, and what `select` needs to choose the next head.
#pragma once

#include <cstdint>

#include "flagdit/tensor.h"

namespace flagdit {

// What the score of a token measures, on its guided velocity: the deviation over channels
// (unbiased, the paper's metric) or the L2 norm over channels, each the mean over the patch's
// pixels. A deviation needs two channels; with one channel both are the magnitude.
enum class Metric { std, l2 };

struct AdvanceArgs {
  Tensor output;    // (A, R, P) velocity of the head; f32, on CUDA also f16, bf16; branches 1 or 2
  Tensor guidance;  // (P,) f32 scale per value; exactly 1 returns the conditional branch
  Tensor velocity;  // (N, B, P) f32 in, out: the head is written, the tail is the cached velocity
  Tensor latent;    // (N, B, P) f32 in, out
  Tensor tokens;    // (N, R, P) out: the latent, in the dtype of the output, for every branch
  Tensor score;     // (N, B) f32 out
  Tensor age;       // (N, B) i32 in, out: head 0, tail + 1
  Tensor drops;     // (N, B) i32 in, out: tail + 1
  float dt;
  int64_t pinned;    // slots 0 .. pinned-1 carry no latent: nothing of theirs is read or written
  int64_t channels;  // P is ordered (channel, pixel)
  Metric metric;
};

void advance(const AdvanceArgs& args, Stream stream);

}  // namespace flagdit
