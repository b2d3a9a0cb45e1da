#include "flagdit/advance.h"

#include <cmath>
#include <string>

#include "advance_kernel.h"
#include "check.h"

namespace flagdit {
namespace {

void check_output(const AdvanceArgs& args) {
  const Tensor& output = args.output;
  check_rank("advance: output", output, 3);
  const bool half = output.dtype == DType::f16 || output.dtype == DType::bf16;
  if (output.dtype != DType::f32 && !(half && output.device == Device::cuda)) {
    refuse("advance: output", describe(output), "float32; on cuda also float16, bfloat16");
  }
}

void check_sizes(const AdvanceArgs& args) {
  const int64_t slots = args.velocity.shape[0], samples = args.velocity.shape[1];
  const int64_t active = args.output.shape[0], rows = args.output.shape[1];
  const int64_t values = args.output.shape[2];
  check_range("advance: pinned", args.pinned, 0, active);
  check_range("advance: slots of the output", active, 0, slots);
  if (samples < 1 || (rows != samples && rows != 2 * samples)) {
    refuse("advance: rows of the output",
           std::to_string(rows) + " for " + std::to_string(samples) + " samples",
           "one or two branches of at least one sample");
  }
  if (args.channels < 1 || values < 1 || values % args.channels != 0) {
    refuse("advance: channels", std::to_string(args.channels),
           "a divisor of the " + std::to_string(values) + " values of a token");
  }
}

void check(const AdvanceArgs& args) {
  check_output(args);
  check_rank("advance: velocity", args.velocity, 3);
  check_sizes(args);
  const int64_t slots = args.velocity.shape[0], samples = args.velocity.shape[1];
  const int64_t rows = args.output.shape[1], values = args.output.shape[2];
  const Device device = args.output.device;
  const Shape state{slots, samples, values}, scalar{slots, samples};
  check_tensor("advance: guidance", args.guidance, DType::f32, {values}, device);
  check_tensor("advance: velocity", args.velocity, DType::f32, state, device);
  check_tensor("advance: latent", args.latent, DType::f32, state, device);
  check_tensor("advance: tokens", args.tokens, args.output.dtype, {slots, rows, values}, device);
  check_tensor("advance: score", args.score, DType::f32, scalar, device);
  check_tensor("advance: age", args.age, DType::i32, scalar, device);
  check_tensor("advance: drops", args.drops, DType::i32, scalar, device);
  if (!args.history) return;
  check_tensor("advance: slope", args.history->slope, DType::f32, state, device);
  check_tensor("advance: time", args.history->time, DType::f32, scalar, device);
  const float forecast = args.history->forecast;
  if (!(forecast >= 0.0f) || !std::isfinite(forecast)) {
    refuse("advance: forecast", std::to_string(forecast), "0 or above");
  }
}

void add_history(AdvanceKernel& kernel, const History& history) {
  kernel.slope = history.slope.as<float>();
  kernel.time = history.time.as<float>();
  kernel.t = history.t;
  kernel.bend = history.bend;
  kernel.forecast = history.forecast;
}

}  // namespace

void advance(const AdvanceArgs& args, Stream stream) {
  check(args);
  AdvanceKernel kernel{};
  kernel.output = args.output.data;
  kernel.guidance = args.guidance.as<float>();
  kernel.velocity = args.velocity.as<float>();
  kernel.latent = args.latent.as<float>();
  kernel.tokens = args.tokens.data;
  kernel.score = args.score.as<float>();
  kernel.age = args.age.as<int32_t>();
  kernel.drops = args.drops.as<int32_t>();
  kernel.dt = args.dt;
  kernel.slots = args.velocity.shape[0];
  kernel.active = args.output.shape[0];
  kernel.pinned = args.pinned;
  kernel.samples = args.velocity.shape[1];
  kernel.branches = args.output.shape[1] / kernel.samples;
  kernel.values = args.output.shape[2];
  kernel.channels = args.channels;
  kernel.deviation = args.metric == Metric::std && args.channels > 1;
  kernel.last = args.last;
  if (args.history) add_history(kernel, *args.history);
  if (args.output.device == Device::cpu) {
    advance_cpu(kernel);
  } else {
    advance_cuda(kernel, args.output.dtype, stream);
  }
}

}  // namespace flagdit
