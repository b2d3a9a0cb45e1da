#include "flagdit/select.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "check.h"
#include "select_rule.h"

namespace flagdit {
namespace {

void check_options(const SelectArgs& args, int64_t slots) {
  check_range("select: slots", slots, 1, std::numeric_limits<int32_t>::max());
  check_range("select: pinned", args.pinned, 0, slots);
  check_range("select: active", args.active, args.pinned, slots);
  check_range("select: max_age", args.max_age, -1, kMaxAge);
  if (!(args.starvation >= 0.0f) || !std::isfinite(args.starvation)) {
    refuse("select: starvation", std::to_string(args.starvation), "0 or more");
  }
  check_range("select: high", args.high, 0, slots - args.active);
}

void check_future(const SelectArgs& args, Device device) {
  const int64_t width = args.max_age + 1;
  if (!args.entry) return check_tensor("select: future", args.future, DType::i32, {width}, device);
  check_rank("select: future", args.future, 2);
  const int64_t entries = std::max<int64_t>(args.future.shape[0], 1);
  check_tensor("select: future", args.future, DType::i32, {entries, width}, device);
  check_tensor("select: entry", *args.entry, DType::i32, {1}, device);
}

void check(const SelectArgs& args) {
  check_rank("select: score", args.score, 2);
  const int64_t slots = args.score.shape[0], samples = args.score.shape[1];
  check_options(args, slots);
  const Device device = args.score.device;
  check_tensor("select: score", args.score, DType::f32, {slots, samples}, device);
  check_tensor("select: age", args.age, DType::i32, {slots, samples}, device);
  check_tensor("select: drops", args.drops, DType::i32, {slots, samples}, device);
  check_tensor("select: token", args.token, DType::i32, {slots, samples}, device);
  check_tensor("select: swaps", args.swaps, DType::i32, {samples, slots, 2}, device);
  check_tensor("select: counts", args.counts, DType::i32, {samples}, device);
  check_tensor("select: codes", args.codes, DType::u64, {samples, slots}, device);
  if (args.max_age >= 0) {
    check_future(args, device);
  }
}

}  // namespace

void select(const SelectArgs& args, Stream stream) {
  check(args);
  SelectKernel kernel{};
  kernel.score = args.score.as<float>();
  kernel.age = args.age.as<int32_t>();
  kernel.drops = args.drops.as<int32_t>();
  kernel.token = args.token.as<int32_t>();
  kernel.future = args.future.as<int32_t>();
  if (args.entry) kernel.entry = {args.entry->as<int32_t>(), args.future.shape[0]};
  kernel.swaps = args.swaps.as<int32_t>();
  kernel.counts = args.counts.as<int32_t>();
  kernel.codes = args.codes.as<uint64_t>();
  kernel.slots = args.score.shape[0];
  kernel.samples = args.score.shape[1];
  kernel.active = args.active;
  kernel.pinned = args.pinned;
  kernel.high = args.high;
  kernel.low = kernel.slots - kernel.active - kernel.high;
  kernel.high_rate = args.mode == Mode::paper ? args.starvation : -args.starvation;
  kernel.low_rate = args.starvation;
  kernel.max_age = static_cast<int32_t>(args.max_age);
  if (args.score.device == Device::cpu) {
    select_cpu(kernel);
  } else {
    select_cuda(kernel, stream);
  }
}

}  // namespace flagdit
