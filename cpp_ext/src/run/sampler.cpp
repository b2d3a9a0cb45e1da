#include "flagdit/sampler.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "check_run.h"
#include "clock.h"
#include "flagdit/adapt.h"
#include "flagdit/dilate.h"
#include "flagdit/error.h"
#include "flagdit/select.h"

namespace flagdit {
namespace {

// Where a call finds the entries of its evaluation, (rows, ...), of arrays (E, R, ...).
std::vector<Bound> current_of(const std::vector<Bound>& timed, int64_t rows, Arena& arena) {
  std::vector<Bound> out;
  for (const Bound& bound : timed) {
    const Shape& all = bound.tensor.shape;
    Shape one(all.sizes.data() + 1, all.rank - 1);
    one.sizes[0] = rows;
    out.push_back({bound.name, arena.make(bound.tensor.dtype, one)});
  }
  return out;
}

Tensor guidance_of(const Extent& extent, Arena& arena) {
  return arena.make(DType::f32, {extent.layout.patch_values()});
}

// The rows of a call of something that has a row for each sample and branch, or all of it.
Tensor rows_of(const Session& session, const Bound& bound, const Call& call) {
  return session.port(bound.name).starts("R") ? slots_of(bound.tensor, call.first_row, call.rows)
                                              : bound.tensor;
}

std::shared_ptr<Session> checked(std::shared_ptr<Session> denoise, const Extent& extent,
                                 const Plan& plan, const Conditions& conditions,
                                 const std::vector<float>& guidance) {
  check_sampler(*denoise, extent, plan, conditions, guidance);
  return denoise;
}

}  // namespace

int64_t Sampler::bytes(const Session& denoise, const Extent& extent, const Plan& plan,
                       const Conditions& conditions) {
  Arena counting;
  const Buffers buffers(denoise.ports(), extent, plan.keeps, counting);
  for (const Call& call : buffers.calls) current_of(conditions.timed, call.rows, counting);
  guidance_of(extent, counting);
  return counting.used();
}

Sampler::Sampler(std::shared_ptr<Session> denoise, const Extent& extent,
                 std::shared_ptr<const Plan> plan, Conditions conditions,
                 const std::vector<float>& guidance, const float* start)
    : denoise_(checked(std::move(denoise), extent, *plan, conditions, guidance)),
      plan_(std::move(plan)),
      conditions_(std::move(conditions)),
      arena_(denoise_->device(), bytes(*denoise_, extent, *plan_, conditions_)),
      buffers_(denoise_->ports(), extent, plan_->keeps, arena_),
      guidance_(guidance_of(extent, arena_)) {
  std::copy(guidance.begin(), guidance.end(), guidance_.as<float>());
  for (size_t call = 0; call < buffers_.calls.size(); ++call) {
    current_.push_back(current_of(conditions_.timed, buffers_.calls[call].rows, arena_));
    moved_.push_back(buffers_.moved(call + 1));
    if (plan_->keeps.cache_slope) forecasts_.push_back(buffers_.forecasts(call));
  }
  fresh_.resize(forecasts_.size());
  buffers_.begin(start, conditions_.placed);
}

StepDone Sampler::step(Stream stream) {
  if (done()) throw std::invalid_argument("Sampler: step: got none left");
  // Left set by what fails, since half a step cannot be gone on from.
  if (under_way_.exchange(true))
    throw std::invalid_argument(
        "Sampler: step: got another while one is under way, or after one that failed; make another "
        "run");
  const StepDone out = do_step(stream);
  under_way_ = false;
  return out;
}

StepDone Sampler::do_step(Stream stream) {
  const Clock::time_point start = Clock::now();
  const size_t index = next_++;
  const Step step = decide(*plan_, plan_->steps[index], buffers_);
  const bool both = plan_->unconditional[index] || owed_;
  const size_t calls = both ? buffers_.calls.size() : 1;
  owed_ = both && step.active == 0;
  if (step.dense) {
    remember(step, calls, stream);
  } else if (step.index > 0 && step.active > 0) {
    repartition(step, calls, stream);
  }
  StepDone out{step, 0, 0, 0.0, 0.0};
  for (; evaluation_ < plan_->evaluations.size(); ++evaluation_) {
    const Evaluation& evaluation = plan_->evaluations[evaluation_];
    if (evaluation.step != step.index) break;
    if (step.active > 0) {
      if (out.evaluations > 0) retarget(step, evaluation.t, calls, stream);
      out.denoise += call(step.active, evaluation_, calls, stream);
      for (size_t i = 0; i < std::min(calls, fresh_.size()); ++i)
        fresh_[i] = {step.active, evaluation.t};
      guide(step.active, calls);
      ++out.evaluations;
    }
    advance(step, evaluation, stream);
  }
  if (step.active > 0) out.branches = both ? buffers_.extent.branches : 1;
  out.host = seconds_since(start) - out.denoise;
  return out;
}

double Sampler::call(int64_t active, size_t evaluation, size_t calls, Stream stream) {
  double seconds = 0.0;
  for (size_t i = 0; i < calls; ++i) {
    Binding& binding = bound(active, i);
    // To copy an entry costs less than to bind it where it lies.
    for (size_t entry = 0; entry < conditions_.timed.size(); ++entry) {
      const Tensor& current = current_[i][entry].tensor;
      const Tensor& all = conditions_.timed[entry].tensor;
      const int64_t bytes = bytes_of(current.dtype, current.shape);
      const int64_t row = bytes / buffers_.calls[i].rows;
      const int64_t from =
          (static_cast<int64_t>(evaluation) * all.shape[1] + buffers_.calls[i].first_row) * row;
      std::memcpy(current.data, all.as<std::byte>() + from, static_cast<size_t>(bytes));
    }
    const Clock::time_point start = Clock::now();
    binding.run(stream);
    seconds += seconds_since(start);
  }
  return seconds;
}

Binding& Sampler::bound(int64_t active, size_t number) {
  std::unique_ptr<Binding>& binding = bindings_[{active, number}];
  if (binding == nullptr) {
    std::vector<Bound> all = buffers_.head(active, number);
    for (const Bound& bound : conditions_.constant)
      all.push_back({bound.name, rows_of(*denoise_, bound, buffers_.calls[number])});
    all.insert(all.end(), current_[number].begin(), current_[number].end());
    for (Bound& bound : all)
      if (bound.memory == nullptr) bound.memory = arena_.memory();
    binding = denoise_->bind(all);
  }
  return *binding;
}

void Sampler::guide(int64_t active, size_t calls) {
  if (!buffers_.difference) return;
  const int64_t values = buffers_.extent.layout.patch_values();
  const int64_t count = active * buffers_.extent.samples * values;
  const auto* conditional = buffers_.calls[0].output.as<float>();
  auto* difference = buffers_.difference->as<float>();
  auto* guided = buffers_.guided->as<float>();
  if (calls > 1) {
    const auto* other = buffers_.calls[1].output.as<float>();
    for (int64_t i = 0; i < count; ++i) difference[i] = conditional[i] - other[i];
  }
  // v = v_uncond + g (v_cond - v_uncond) = v_cond + (g - 1) d
  for (int64_t i = 0; i < count; ++i) {
    const float more = difference[i] * (guidance_.as<float>()[i % values] - 1.0f);
    guided[i] = more + conditional[i];
  }
}

void Sampler::advance(const Step& step, const Evaluation& evaluation, Stream stream) {
  const Layout& layout = buffers_.extent.layout;
  // A step without a call of `denoise` moves everything along.
  const int64_t active = std::max(step.active, plan_->pinned);
  AdvanceArgs args{
      slots_of(buffers_.guided ? *buffers_.guided : buffers_.calls[0].output, 0, active),
      guidance_,
      buffers_.velocity,
      buffers_.latent,
      buffers_.tokens,
      buffers_.score,
      buffers_.age,
      buffers_.drops,
      static_cast<float>(evaluation.dt),
      plan_->pinned,
      layout.channels,
      plan_->ranking.metric,
      evaluation.last,
      buffers_.history};
  if (args.history) {
    args.history->t = static_cast<float>(evaluation.t);
    args.history->next = static_cast<float>(plan_->scored_at(step));
    args.history->bend = static_cast<float>(evaluation.bend);
    args.history->arc = static_cast<float>(evaluation.arc);
    args.history->forecast =
        plan_->forecast.order > 0 ? static_cast<float>(plan_->forecast.clamp) : 0.0f;
    args.history->keep_norm = plan_->forecast.keep_norm;
  }
  flagdit::advance(args, stream);
  const auto share = static_cast<float>(plan_->ranking.dilation);
  if (share > 0.0f && evaluation.last)
    dilate({buffers_.score, buffers_.token, buffers_.grid, layout.stride(), plan_->pinned, share},
           stream);
}

void Sampler::select_head(const Step& step, Stream stream) {
  auto* capacity =
      const_cast<int32_t*>(plan_->capacity.data());  // a Tensor is not const; read only
  const Tensor future{capacity + step.index * plan_->capacity_columns,
                      DType::i32,
                      {std::max<int64_t>(plan_->max_age, 0) + 1},
                      Device::cpu};
  select({buffers_.score, buffers_.age, buffers_.drops, buffers_.token, future, buffers_.swaps,
          buffers_.counts, buffers_.codes, step.active, plan_->pinned,
          static_cast<float>(plan_->ranking.starvation), step.high, plan_->max_age,
          plan_->ranking.mode},
         stream);
}

void Sampler::repartition(const Step& step, size_t calls, Stream stream) {
  select_head(step, stream);
  moved_[calls - 1].swap(buffers_.swaps, buffers_.counts, stream);
  const Swaps pairs{buffers_.swaps, buffers_.counts};
  const double damping = plan_->damping[static_cast<size_t>(step.index)];
  for (size_t i = 0; i < forecasts_.size(); ++i) {
    const auto [slots, time] = std::exchange(fresh_[i], {0, fresh_[i].second});
    // A call that the step does not make keeps its tail as it is.
    const bool makes = i < calls;
    const ForecastStep move{slots,
                            static_cast<float>(time),
                            makes ? step.active : 0,
                            makes ? static_cast<float>(step.t) : 0.0f,
                            makes ? static_cast<float>(damping) : 0.0f,
                            makes};
    for (const CacheForecast& forecast : forecasts_[i]) forecast.move(pairs, move, stream);
  }
}

void Sampler::remember(const Step& step, size_t calls, Stream stream) {
  for (size_t i = 0; i < std::min(calls, forecasts_.size()); ++i) {
    if (!plan_->precedes_ras(static_cast<int64_t>(i), step.index)) continue;
    const auto [slots, time] = std::exchange(fresh_[i], {0, fresh_[i].second});
    const ForecastStep keep{slots, static_cast<float>(time), plan_->tokens, 0.0f, 0.0f, true};
    for (const CacheForecast& forecast : forecasts_[i]) forecast.move(std::nullopt, keep, stream);
  }
}

void Sampler::retarget(const Step& step, double t, size_t calls, Stream stream) {
  if (step.active >= plan_->tokens) return;
  const auto damping = static_cast<float>(plan_->damping[static_cast<size_t>(step.index)]);
  const ForecastStep move{0, 0.0f, step.active, static_cast<float>(t), damping, true};
  for (size_t i = 0; i < std::min(calls, forecasts_.size()); ++i)
    for (const CacheForecast& forecast : forecasts_[i]) forecast.move(std::nullopt, move, stream);
}

}  // namespace flagdit
