#include "kept.h"

#include <utility>

#include "../forecast_kernel.h"
#include "tables.h"

namespace flagdit {

bool Kept::by_token(const Session& denoise, const Plan& plan) {
  // What a text that rests has left is behind the tails that are bound, and no token's.
  return plan.keeps.cache_slope && !plan.rest_text && denoise.finds_tails();
}

void Kept::begin() {
  const int64_t n = buffers_.token.shape[0], b = buffers_.extent.samples;
  known_.clear();
  tails_.clear();
  for (size_t call = 0; call < buffers_.calls.size(); ++call) {
    const auto count = static_cast<size_t>(n * b);
    known_.push_back({std::vector<int32_t>(count), std::vector<int32_t>(count),
                      std::vector<float>(count), std::vector<float>(count),
                      std::vector<float>(count)});
    Tails tails;
    tails.caches = buffers_.kept(call);
    tails.rows = buffers_.calls[call].rows, tails.samples = b;
    tails_.push_back(std::move(tails));
  }
  // Vectors stay where they are from here on.
  for (size_t call = 0; call < tails_.size(); ++call) {
    tails_[call].token = buffers_.token.as<int32_t>();
    tails_[call].last = known_[call].last_by_slot.data();
    tails_[call].gain = known_[call].gain_by_slot.data();
    tails_[call].ahead = known_[call].ahead.data();
  }
}

// Whether a later call reads what this one computes: as one of the last two before a RAS step. A
// plan that decides as it runs may leave out the step that would have made it needless.
bool Kept::keeps(size_t call, int64_t step) const {
  const auto number = static_cast<int64_t>(call);
  if (Decision::of(plan_)) return true;
  for (size_t next = static_cast<size_t>(step) + 1; next < plan_.steps.size(); ++next) {
    const Step& its = plan_.steps[next];
    if (!plan_.runs(number, its.index)) continue;
    return !its.dense || (plan_.precedes_ras(number, its.index) && !plan_.places_anew(its.index));
  }
  return false;
}

void Kept::aim(const Work& work, size_t evaluation) {
  for (size_t call = 0; call < work.calls; ++call) {
    Tails& tails = tails_[call];
    tails.active = work.step.active;
    tails.tail = plan_.tokens - work.step.active;
    tails.keeps = keeps(call, work.step.index);
    // A second evaluation writes what the first did.
    if (tails.keeps && evaluation == work.first) write_head(call, work);
    read_tail(call, work, evaluation);
  }
}

// What was last is the one before, once the call has run.
void Kept::write_head(size_t call, const Work& work) {
  Known& known = known_[call];
  const int64_t samples = buffers_.extent.samples;
  auto* anchored = buffers_.forecast_arrays[call].front().anchored.as<float>();
  const auto* token = buffers_.token.as<int32_t>();
  const auto time = static_cast<float>(plan_.evaluations[work.end - 1].t);
  const ForecastNumbers now{0, time, 0, 0.0f, 0.0f, true};
  for (int64_t at = 0; at < work.step.active * samples; ++at) {
    const int64_t its = token[at] * samples + at % samples;
    known.gain[its] = gain_at(now, anchored[its]);
    anchored[its] = time;
    known.last[its] ^= 1;
    known.last_by_slot[at] = known.last[its];
  }
}

void Kept::read_tail(size_t call, const Work& work, size_t evaluation) {
  Known& known = known_[call];
  const int64_t samples = buffers_.extent.samples;
  const auto* anchored = buffers_.forecast_arrays[call].front().anchored.as<float>();
  const auto* token = buffers_.token.as<int32_t>();
  const double target = evaluation == work.first ? work.step.t : plan_.evaluations[evaluation].t;
  const auto damping = static_cast<float>(plan_.damping[static_cast<size_t>(work.step.index)]);
  const ForecastNumbers then{0, 0.0f, 0, static_cast<float>(target), damping, true};
  for (int64_t at = work.step.active * samples; at < plan_.tokens * samples; ++at) {
    const int64_t its = token[at] * samples + at % samples;
    known.last_by_slot[at] = known.last[its];
    known.gain_by_slot[at] = known.gain[its];
    known.ahead[at] = ahead_at(then, anchored[its]);
  }
}

}  // namespace flagdit
