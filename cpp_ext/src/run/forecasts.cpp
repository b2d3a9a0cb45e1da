#include "forecasts.h"

#include <algorithm>

#include "flagdit/device.h"

namespace flagdit {
namespace {

constexpr int64_t kNumbers = 4;

}  // namespace

std::vector<Work> works_of(const Plan& plan, size_t calls) {
  std::vector<Work> out;
  size_t first = 0;
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const auto own = static_cast<size_t>(plan.branches(static_cast<int64_t>(i)));
    out.emplace_back(plan, plan.steps[i], first, std::min(calls, own));
    first = out.back().end;
  }
  return out;
}

Forecasts::Forecasts(const Plan& plan, const Buffers& buffers, bool by_token, Arena& arena)
    : plan_(plan), buffers_(buffers) {
  if (!plan.keeps.cache_slope || by_token) return;
  const auto count = static_cast<int64_t>(plan.evaluations.size());
  for (size_t call = 0; call < buffers.calls.size(); ++call)
    tables_.push_back(arena.make(DType::f32, {count, kNumbers}));
  fresh_.resize(tables_.size());
}

void Forecasts::prepare() {
  for (size_t call = 0; call < tables_.size(); ++call) {
    const Tensor& table = tables_[call];
    hosts_.push_back(pinned(table.device, bytes_of(table.dtype, table.shape)));
    caches_.push_back(buffers_.forecasts(call));
  }
}

void Forecasts::fill(const std::vector<Work>& works, Stream stream) {
  std::fill(fresh_.begin(), fresh_.end(), std::pair<int64_t, double>());
  for (size_t call = 0; call < tables_.size(); ++call)
    std::fill_n(reinterpret_cast<float*>(hosts_[call].get()), tables_[call].shape[0] * kNumbers,
                0.0f);
  for (const Work& work : works) note(work);
  for (size_t call = 0; call < tables_.size(); ++call)
    write(tables_[call], hosts_[call].get(), stream);
}

void Forecasts::next(const Work& work, Stream stream) {
  note(work);
  const auto first = static_cast<int64_t>(work.first), end = static_cast<int64_t>(work.end);
  for (size_t call = 0; call < tables_.size(); ++call)
    enqueue_write(slots_of(tables_[call], first, end - first),
                  reinterpret_cast<float*>(hosts_[call].get()) + first * kNumbers, stream);
}

void Forecasts::put(size_t call, size_t evaluation, int64_t slots, double time, double target,
                    double damping) {
  float* row =
      reinterpret_cast<float*>(hosts_[call].get()) + static_cast<int64_t>(evaluation) * kNumbers;
  row[0] = static_cast<float>(slots);
  row[1] = static_cast<float>(time);
  row[2] = static_cast<float>(target);
  row[3] = static_cast<float>(damping);
}

void Forecasts::note(const Work& work) {
  const Step& step = work.step;
  if (step.active == 0) return;
  const double damping = plan_.damping[static_cast<size_t>(step.index)];
  for (size_t call = 0; call < tables_.size(); ++call) {
    const bool makes = call < work.calls, moves = !step.dense && step.index > 0;
    if (moves || (work.remembers >> call & 1) != 0) {
      const auto [slots, time] = std::exchange(fresh_[call], {0, fresh_[call].second});
      const bool ahead = moves && makes;
      put(call, work.first, slots, time, ahead ? step.t : 0.0, ahead ? damping : 0.0);
    }
    if (!makes) continue;
    if (work.end - work.first > 1)
      put(call, work.first + 1, 0, 0.0, plan_.evaluations[work.first + 1].t, damping);
    fresh_[call] = {step.active, plan_.evaluations[work.end - 1].t};
  }
}

void Forecasts::move(size_t call, const std::optional<Swaps>& swaps, int64_t active, bool tail,
                     const Tensor& entry, Stream stream) const {
  ForecastStep step{0, 0.0f, active, 0.0f, 0.0f, tail};
  step.table = ForecastTable{tables_[call], entry};
  for (const CacheForecast& cache : caches_[call]) cache.move(swaps, step, stream);
}

void Forecasts::remember(const Work& work, const Tensor& entry, Stream stream) const {
  for (size_t call = 0; call < caches_.size(); ++call)
    if ((work.remembers >> call & 1) != 0)
      move(call, std::nullopt, plan_.tokens, true, entry, stream);
}

void Forecasts::repartition(const Work& work, const Tensor& entry, Stream stream) const {
  const Swaps pairs{buffers_.swaps, buffers_.counts};
  for (size_t call = 0; call < caches_.size(); ++call) {
    // A call that the step does not make keeps its tail as it is; who skips layers begins anew.
    const bool makes = call < work.calls;
    if (!makes && call >= kKept) continue;
    move(call, pairs, makes ? work.step.active : 0, makes, entry, stream);
  }
}

void Forecasts::retarget(const Work& work, const Tensor& entry, Stream stream) const {
  if (work.step.active >= plan_.tokens) return;
  for (size_t call = 0; call < std::min(work.calls, caches_.size()); ++call)
    move(call, std::nullopt, work.step.active, true, entry, stream);
}

}  // namespace flagdit
