#include "flagdit/advance.h"

#include <algorithm>
#include <cmath>
#include <optional>
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

void check_finite_numbers(const AdvanceArgs& args) {
  check_finite("advance: dt", args.dt);
  if (!args.history) return;
  check_finite("advance: t", args.history->t);
  check_finite("advance: next", args.history->next);
  check_finite("advance: bend", args.history->bend);
  check_finite("advance: arc", args.history->arc);
}

void check_history(const History& history, const Shape& state, const Shape& scalar, Device device) {
  check_tensor("advance: time", history.time, DType::f32, scalar, device);
  check_tensor("advance: rate", history.rate, DType::f32, scalar, device);
  if (history.slope) check_tensor("advance: slope", *history.slope, DType::f32, state, device);
  if (history.curve) check_tensor("advance: curve", *history.curve, DType::f32, state, device);
  if (history.span) check_tensor("advance: span", *history.span, DType::f32, scalar, device);
  if (history.curve.has_value() != history.span.has_value() || (history.curve && !history.slope)) {
    refuse("advance: curve, span", "one without the other, or without slope", "slope, curve, span");
  }
  if (!(history.forecast >= 0.0f) || !std::isfinite(history.forecast)) {
    refuse("advance: forecast", std::to_string(history.forecast), "0 or above");
  }
  if (!history.slope && (history.bend != 0.0f || history.forecast != 0.0f)) {
    refuse("advance: bend, forecast",
           std::to_string(history.bend) + ", " + std::to_string(history.forecast),
           "0 without slope");
  }
  if (!history.curve && history.arc != 0.0f) {
    refuse("advance: arc", std::to_string(history.arc), "0 without curve");
  }
}

void check_table(const AdvanceArgs& args, Device device) {
  const Tensor& numbers = args.table->numbers;
  check_rank("advance: table", numbers, 2);
  check_tensor("advance: table", numbers, DType::f32, {std::max<int64_t>(numbers.shape[0], 1), 5},
               device);
  check_tensor("advance: entry", args.table->entry, DType::i32, {1}, device);
  const History none{}, &history = args.history ? *args.history : none;
  if (args.dt != 0.0f || history.t != 0.0f || history.next != 0.0f || history.bend != 0.0f ||
      history.arc != 0.0f) {
    refuse("advance: dt, t, next, bend, arc",
           std::to_string(args.dt) + ", " + std::to_string(history.t) + ", " +
               std::to_string(history.next) + ", " + std::to_string(history.bend) + ", " +
               std::to_string(history.arc),
           "0 with a table");
  }
}

void check_known(const AdvanceArgs& args, const Shape& state, const Shape& scalar, Device device) {
  if (args.known.has_value() != args.known_velocity.has_value())
    refuse("advance: known, known_velocity", "one of them", "both or none");
  if (!args.known) return;
  check_tensor("advance: known", *args.known, DType::boolean, scalar, device);
  check_tensor("advance: known_velocity", *args.known_velocity, DType::f32, state, device);
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
  check_finite_numbers(args);
  if (args.history) {
    check_history(*args.history, state, scalar, device);
  } else if (args.metric == Metric::change) {
    refuse("advance: history", "none", "a history with the metric change");
  }
  if (args.table) check_table(args, device);
  check_known(args, state, scalar, device);
}

void add_history(AdvanceKernel& kernel, const History& history) {
  const auto data = [](const std::optional<Tensor>& t) { return t ? t->as<float>() : nullptr; };
  kernel.time = history.time.as<float>();
  kernel.rate = history.rate.as<float>();
  kernel.slope = data(history.slope);
  kernel.curve = data(history.curve);
  kernel.span = data(history.span);
  kernel.t = history.t;
  kernel.next = history.next;
  kernel.bend = history.bend;
  kernel.arc = history.arc;
  kernel.forecast = history.forecast;
  kernel.keep_norm = history.keep_norm;
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
  kernel.metric = args.metric;
  kernel.last = args.last;
  if (args.history) add_history(kernel, *args.history);
  if (args.table) {
    kernel.numbers = args.table->numbers.as<float>();
    kernel.entry = {args.table->entry.as<int32_t>(), args.table->numbers.shape[0]};
  }
  if (args.known) {
    kernel.known = args.known->as<bool>();
    kernel.given = args.known_velocity->as<float>();
  }
  if (args.output.device == Device::cpu) {
    advance_cpu(kernel);
  } else {
    advance_cuda(kernel, args.output.dtype, stream);
  }
}

}  // namespace flagdit
