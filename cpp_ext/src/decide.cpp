#include "flagdit/decide.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "check.h"
#include "decide_rule.h"
#include "flagdit/refresh.h"

namespace flagdit {
namespace {

void check_numbers(const DecideArgs& args, int64_t slots) {
  check_range("decide_active: slots", slots, 1, std::numeric_limits<int32_t>::max());
  check_range("decide_active: pinned", args.pinned, 0, slots - 1);
  check_range("decide_active: planned", args.planned, args.pinned, slots);
  check_range("decide_active: bucket", args.bucket, 1, slots);
  check_range("decide_active: head_multiple", args.head_multiple, 1,
              std::numeric_limits<int32_t>::max());
  check_range("decide_active: max_age", args.max_age, -1, kMaxAge);
  for (const double value : {args.error_budget, args.gate})
    if (!(value >= 0.0) || !std::isfinite(value))
      refuse("decide_active: error_budget, gate", std::to_string(value), "0 or more");
}

void check(const DecideArgs& args) {
  check_rank("decide_active: velocity", args.velocity, 3);
  const Shape& all = args.velocity.shape;
  check_numbers(args, all[0]);
  check_range("decide_active: samples", all[1], 1, std::numeric_limits<int32_t>::max());
  check_range("decide_active: values", all[2], 1, std::numeric_limits<int32_t>::max());
  const Device device = args.score.device;
  const Shape scalar{all[0], all[1]};
  check_tensor("decide_active: score", args.score, DType::f32, scalar, device);
  check_tensor("decide_active: velocity", args.velocity, DType::f32, all, device);
  check_tensor("decide_active: age", args.age, DType::i32, scalar, device);
  check_tensor("decide_active: active", args.active, DType::i32, {1}, device);
  check_tensor("decide_active: scratch", args.scratch, DType::i32,
               {decide_scratch(all[0] - args.pinned, all[1])}, device);
  if (args.max_age < 0) return;
  const int64_t width = args.max_age + 1;
  if (!args.entry)
    return check_tensor("decide_active: future", args.future, DType::i32, {width}, device);
  check_rank("decide_active: future", args.future, 2);
  const int64_t entries = std::max<int64_t>(args.future.shape[0], 1);
  check_tensor("decide_active: future", args.future, DType::i32, {entries, width}, device);
  check_tensor("decide_active: entry", *args.entry, DType::i32, {1}, device);
}

}  // namespace

int64_t decide_scratch(int64_t patches, int64_t samples) {
  int64_t sorted = 1;
  while (sorted < patches) sorted *= 2;
  return product("decide_scratch", {samples, 2 + (sorted > kDecideShared ? sorted : 0)});
}

void decide_active(const DecideArgs& args, Stream stream) {
  check(args);
  DecideKernel kernel{};
  kernel.score = args.score.as<float>();
  kernel.velocity = args.velocity.as<float>();
  kernel.age = args.age.as<int32_t>();
  kernel.future = args.future.as<int32_t>();
  if (args.entry && args.max_age >= 0)
    kernel.entry = {args.entry->as<int32_t>(), args.future.shape[0]};
  kernel.scratch = args.scratch.as<int32_t>();
  kernel.active = args.active.as<int32_t>();
  kernel.slots = args.velocity.shape[0];
  kernel.samples = args.velocity.shape[1];
  kernel.values = args.velocity.shape[2];
  kernel.pinned = args.pinned;
  kernel.planned = args.planned;
  kernel.bucket = args.bucket;
  kernel.head_multiple = args.head_multiple;
  kernel.max_age = args.max_age;
  kernel.error_budget = args.error_budget;
  kernel.gate = args.gate;
  if (args.score.device == Device::cpu) {
    decide_cpu(kernel);
  } else {
    decide_cuda(kernel, stream);
  }
}

}  // namespace flagdit
