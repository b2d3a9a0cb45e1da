// One pass over the slots after a call of `denoise`: guidance on the head, the solver's update
// everywhere, and what `select` needs to choose the next head.
#pragma once

#include <cstdint>
#include <optional>

#include "flagdit/tensor.h"
#include "flagdit/tick.h"

namespace flagdit {

// What the score of a token measures. On the velocity it moves along: the deviation over channels
// (unbiased, the paper's metric) or the L2 norm over channels, each the mean over the patch's
// pixels. A deviation needs two channels; with one channel both are the magnitude. Or `change`: how
// far its velocity will be off at the time `next` if it is not computed then, from how fast it went
// off its course before: rate * (next - time), which needs a history.
enum class Metric { std, l2, change };

// How velocities change. A token's time is that of its last output, its own time, so that a token
// which was cached for long has the true slope. Differences are divided differences of its last two
// outputs (slope) and of its last two slopes (curve), 0 as long as there are fewer. An output at
// the time of the one before leaves them, and the rate, as they are.
struct History {
  Tensor time;  // (N, B) f32 in, out: of the last output; -inf before the first
  Tensor rate;  // (N, B) f32 in, out: rms distance of the last output from what the tail would have
                // moved along at its time, over the time since the output before; the
                // caller's first value, such as inf, until there are two outputs
  std::optional<Tensor> slope{};  // (N, B, P) f32 in, out; needed by bend and forecast
  std::optional<Tensor> curve{};  // (N, B, P) f32 in, out; makes the forecast one of second order
  std::optional<Tensor> span{};   // (N, B) f32 in, out, with curve: time between the last two
  float t = 0.0f;                 // of this output
  float next = 0.0f;              // that a score looks ahead to, of the next step's last output
  float bend = 0.0f;       // latent += bend * slope, what a solver of second order adds (solver.h)
  float forecast = 0.0f;   // > 0: the tail moves along its velocity extrapolated to t, and bends;
                           // the change is scaled down to at most forecast times the velocity's
                           // norm; 0: the tail moves along the cached velocity, straight
  bool keep_norm = false;  // the forecast turns a velocity, and leaves its norm
  float arc = 0.0f;        // of the head: latent += arc * curve (solver.h)
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
  std::optional<StepTable> table{};  // its entry replaces dt, t, next, bend, arc, which are 0
  // Tokens whose velocity is given, such as those that inpainting keeps: the data minus the noise.
  // In head and tail they move along it exactly, without slope, curve or forecast, whatever
  // `denoise` says; it is in `velocity` too. Their rate is 0, and with the metric change so is their
  // score. Ages and drops count them as others, since the keys of a tail are as old for them.
  std::optional<Tensor> known{};           // (N, B) boolean
  std::optional<Tensor> known_velocity{};  // (N, B, P) f32, of the known ones; with `known` only
};

void advance(const AdvanceArgs& args, Stream stream);

}  // namespace flagdit
