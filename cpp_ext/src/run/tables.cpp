#include "tables.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "flagdit/decide.h"
#include "flagdit/device.h"

namespace flagdit {
namespace {

int64_t count(const Plan& plan) { return static_cast<int64_t>(plan.evaluations.size()); }
int64_t ages(const Plan& plan) { return std::max<int64_t>(plan.max_age, 0) + 1; }

}  // namespace

Tables::Tables(const Plan& plan, Arena& arena)
    : numbers(arena.make(DType::f32, {count(plan), 5})),
      future(arena.make(DType::i32, {count(plan), ages(plan)})),
      entry(arena.make(DType::i32, {1})) {}

void Tables::fill(const Plan& plan, Stream stream) const {
  std::vector<float> rows;
  std::vector<int32_t> capacity;
  for (const Evaluation& e : plan.evaluations) {
    const double next = plan.scored_at(plan.steps[static_cast<size_t>(e.step)]);
    for (const double number : {e.dt, e.t, next, e.bend, e.arc})
      rows.push_back(static_cast<float>(number));
    const int32_t* own = plan.capacity.data() + e.step * plan.capacity_columns;
    for (int64_t age = 0; age < ages(plan); ++age)
      capacity.push_back(plan.max_age < 0 ? 0 : own[age]);
  }
  write(numbers, rows.data(), stream);
  write(future, capacity.data(), stream);
}

AgeLog::AgeLog(const Plan& plan, const Buffers& buffers, Arena& arena)
    : buffers_(buffers),
      log_(arena.make(DType::i32, {count(plan), 2, buffers.age.shape[0], buffers.age.shape[1]})) {}

void AgeLog::prepare() {
  const int64_t half = bytes_of(DType::i32, buffers_.age.shape);
  std::vector<PickTable> tables{{log_.data, buffers_.age.data, 2 * half, 0, half, true},
                                {log_.data, buffers_.token.data, 2 * half, half, half, true}};
  kept_.emplace(std::move(tables), log_.shape[0], log_.device);
}

void AgeLog::keep(const Tensor& entry, Stream stream) const { kept_->copy(entry, stream); }

void AgeLog::read(const Plan& plan, size_t steps, int16_t* out, Stream stream) const {
  const Layout& layout = buffers_.extent.layout;
  const int64_t b = buffers_.extent.samples, slots = buffers_.age.shape[0] * b;
  const auto entries = static_cast<size_t>(log_.shape[0]);
  std::vector<int32_t> log(entries * 2 * static_cast<size_t>(slots));
  flagdit::read(log.data(), log_, stream);
  std::fill_n(out, static_cast<int64_t>(steps) * b * layout.patches(), int16_t{0});
  for (size_t e = 0; e < entries; ++e) {
    const Evaluation& evaluation = plan.evaluations[e];
    if (!evaluation.last || evaluation.step >= static_cast<int64_t>(steps)) continue;
    const int32_t* age = log.data() + static_cast<int64_t>(e) * 2 * slots;
    int16_t* step = out + evaluation.step * b * layout.patches();
    for (int64_t row = layout.pinned() * b; row < slots; ++row)
      step[row % b * layout.patches() + layout.patch_of(age[slots + row])] =
          static_cast<int16_t>(age[row]);
  }
}

bool Decision::of(const Plan& plan) {
  return plan.budget.error_budget != 0.0 || plan.budget.gate != 0.0;
}

Decision::Decision(const Plan& plan, const Extent& extent, Arena& arena)
    : scratch_(arena.make(DType::i32, {decide_scratch(plan.tokens - plan.pinned, extent.samples)})),
      active_(arena.make(DType::i32, {1})),
      read_(pinned(arena.device(), 4)) {}

Step Decision::decide(const Plan& plan, const Step& step, const Buffers& state,
                      const Tables& tables, Stream stream) {
  if (step.dense) return step;
  const Budget& budget = plan.budget;
  decide_active({state.score, state.velocity, state.age, tables.future, scratch_, active_,
                 plan.pinned, step.active, budget.bucket, plan.max_age, budget.error_budget,
                 budget.gate, tables.entry, budget.head_multiple},
                stream);
  read(read_.get(), active_, stream);
  const int64_t active = *reinterpret_cast<const int32_t*>(read_.get());
  if (active > 0 && budget.error_budget == 0.0) return step;
  // Of another number of tokens all that are cached come from the low side.
  return {step.index, step.t, step.t_next, active, active == plan.tokens, 0};
}

}  // namespace flagdit
