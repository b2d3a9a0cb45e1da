// One pass over the slots after an engine call: guidance on the head, the solver's update
// everywhere, and what `select` needs to choose the next head.
#pragma once

#include <cstdint>
#include <optional>

#include "flagdit/tensor.h"

namespace flagdit {

// What the score of a token measures, on its guided velocity: the deviation over channels
// (unbiased, the paper's metric) or the L2 norm over channels, each the mean over the patch's
// pixels. A deviation needs two channels; with one channel both are the magnitude.
enum class Metric { std, l2 };

// How the velocity of a token changes: its slope is the difference of its last two outputs over the
// time between them, its own time, so that a token which was cached for long has the true slope.
// 0 before the second output; an output at the time of the one before leaves it as it is.
struct History {
  Tensor slope;    // (N, B, P) f32 in, out
  Tensor time;     // (N, B) f32 in, out: of the last output; -inf before the first
  float t;         // of this output
  float bend;      // latent += bend * slope, what a solver of second order adds (solver.h)
  float forecast;  // > 0: the tail moves along velocity + (t - time) * slope and bends, its slope
                   // scaled down so that the velocity changes by at most forecast times its norm;
                   // 0: the tail moves along the cached velocity, straight
};

struct AdvanceArgs {
  Tensor output;     // (A, R, P) velocity of the head; f32, on CUDA also f16, bf16; branches 1 or 2
  Tensor guidance;   // (P,) f32 scale per value; exactly 1 returns the conditional branch
  Tensor velocity;   // (N, B, P) f32 in, out: the head is written, the tail is the cached velocity,
                     // which a forecast does not change, so that forecasts do not compound
  Tensor latent;     // (N, B, P) f32 in, out
  Tensor tokens;     // (N, R, P) out: the latent, in the dtype of the output, for every branch
  Tensor score;      // (N, B) f32 out, of the velocity that the token moves along
  Tensor age;        // (N, B) i32 in, out: head 0, tail + 1 if last
  Tensor drops;      // (N, B) i32 in, out: tail + 1 if last
  float dt;          // latent += dt * velocity
  int64_t pinned;    // slots 0 .. pinned-1 carry no latent: nothing of theirs is read or written
  int64_t channels;  // P is ordered (channel, pixel)
  Metric metric;
  bool last = true;  // of the step's evaluations: ages count steps
  std::optional<History> history{};
};

void advance(const AdvanceArgs& args, Stream stream);

}  // namespace flagdit
