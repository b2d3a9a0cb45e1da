#include "flagdit/sampler.h"

#include <stdexcept>
#include <string>

#include "calls.h"
#include "captures.h"
#include "check_run.h"
#include "clock.h"
#include "forecasts.h"
#include "tables.h"
#include "work.h"

namespace flagdit {
namespace {

std::shared_ptr<Session> checked(std::shared_ptr<Session> denoise, const Extent& extent,
                                 const Plan& plan, const Conditions& conditions,
                                 const std::vector<float>& guidance) {
  check_sampler(*denoise, extent, plan, conditions, guidance);
  return denoise;
}

// All that a run takes besides its buffers.
struct Parts {
  Parts(Session& denoise, const Extent& extent, const Plan& plan, const Conditions& conditions,
        const Buffers& buffers, Arena& arena)
      : tables(std::make_unique<Tables>(plan, arena)),
        log(std::make_unique<AgeLog>(plan, buffers, arena)),
        calls(std::make_unique<Calls>(denoise, conditions, buffers, arena)),
        forecasts(std::make_unique<Forecasts>(plan, buffers, arena)),
        guidance(arena.make(DType::f32, {extent.layout.patch_values()})),
        broken(arena.make(DType::i32, {1})) {
    if (Decision::of(plan)) decision = std::make_unique<Decision>(plan, extent, arena);
  }

  std::unique_ptr<Tables> tables;
  std::unique_ptr<AgeLog> log;
  std::unique_ptr<Calls> calls;
  std::unique_ptr<Forecasts> forecasts;
  std::unique_ptr<Decision> decision;
  Tensor guidance, broken;
};

// Why steps cannot be captured; empty if they can.
std::string why_plain(const Session& denoise) {
  if (denoise.device() == Device::cpu) return "the CPU has no graphs";
  if (denoise.stream() == nullptr) return denoise.backend + " has no stream of its own";
  return "";
}

}  // namespace

int64_t Sampler::bytes(const Session& denoise, const Extent& extent, const Plan& plan,
                       const Conditions& conditions) {
  Arena counting(denoise.device());
  const Buffers buffers(denoise.ports(), extent, plan.keeps, counting);
  // Nothing of it is bound, so the session stays as it is.
  const Parts parts(const_cast<Session&>(denoise), extent, plan, conditions, buffers, counting);
  return counting.used();
}

Sampler::Sampler(std::shared_ptr<Session> denoise, const Extent& extent,
                 std::shared_ptr<const Plan> plan, Conditions conditions,
                 const std::vector<float>& guidance, const float* start, const Known* known)
    : denoise_(checked(std::move(denoise), extent, *plan, conditions, guidance)),
      plan_(std::move(plan)),
      stream_(denoise_->stream()),
      conditions_(std::move(conditions)),
      arena_(denoise_->device(), bytes(*denoise_, extent, *plan_, conditions_)),
      buffers_(denoise_->ports(), extent, plan_->keeps, arena_) {
  Parts parts(*denoise_, extent, *plan_, conditions_, buffers_, arena_);
  tables_ = std::move(parts.tables);
  log_ = std::move(parts.log);
  calls_ = std::move(parts.calls);
  decision_ = std::move(parts.decision);
  guidance_ = parts.guidance;
  broken_ = parts.broken;
  forecasts_ = std::move(parts.forecasts);
  // A plan that decides as it runs has no steps that are known.
  const std::vector<Work> works =
      decision_ == nullptr ? works_of(*plan_, buffers_.calls.size()) : std::vector<Work>();
  captures_ = std::make_unique<Captures>(works, why_plain(*denoise_));
  for (size_t call = 0; call < buffers_.calls.size(); ++call)
    moved_.push_back(buffers_.moved(call + 1));
  const auto held = turn();
  write(guidance_, guidance.data(), stream_);
  tables_->fill(*plan_, stream_);
  log_->begin();
  calls_->fill(stream_);
  forecasts_->fill(works, stream_);
  buffers_.begin(start, conditions_.placed, stream_);
  if (buffers_.known) {
    if (known == nullptr)
      throw std::invalid_argument("Sampler: known: got none, and the plan keeps it");
    buffers_.begin_known(known->patches.data(), known->velocity.data(), stream_);
  }
}

Sampler::~Sampler() = default;

// On a CPU threads that share a session do not wait for each other.
std::unique_lock<std::mutex> Sampler::turn() const {
  return stream_ == nullptr ? std::unique_lock<std::mutex>()
                            : std::unique_lock<std::mutex>(denoise_->turn());
}

StepDone Sampler::step() {
  if (done()) throw std::invalid_argument("Sampler: step: got none left");
  // Left set by what fails, since half a step cannot be gone on from.
  if (under_way_.exchange(true))
    throw std::invalid_argument(
        "Sampler: step: got another while one is under way, or after one that failed; make another "
        "run");
  const StepDone out = do_step();
  under_way_ = false;
  return out;
}

StepDone Sampler::do_step() {
  const Clock::time_point start = Clock::now();
  const auto held = turn();
  const size_t index = next_++;
  const Step step = decision_ == nullptr ? plan_->steps[index]
                                         : decision_->decide(*plan_, plan_->steps[index], buffers_,
                                                             *tables_, stream_);
  const bool both = plan_->unconditional[index] || owed_;
  owed_ = both && step.active == 0;
  const Work work(*plan_, step, evaluation_, both ? buffers_.calls.size() : 1);
  evaluation_ = work.end;
  spent_ = 0.0;
  const auto mark = [&] {
    if (device() == Device::cpu) return;
    events_.emplace_back(device());
    events_.back().record(stream_);
  };
  if (events_.empty()) mark();
  if (decision_ != nullptr) forecasts_->next(work, stream_);
  const int64_t nodes = captures_->launch(work, calls_->settled(step.active, work.calls),
                                          stream_, [&] { enqueue(work); });
  mark();
  StepDone out{step, 0, 0, spent_, 0.0, nodes};
  if (step.active > 0) {
    out.evaluations = static_cast<int64_t>(work.end - work.first);
    out.branches = both ? buffers_.extent.branches : 1;
  }
  out.host = seconds_since(start) - out.denoise;
  return out;
}

void Sampler::latents(float* out, double ahead) const {
  const auto held = turn();
  buffers_.latents(out, ahead, stream_);
}

void Sampler::ages(int16_t* out) const {
  const auto held = turn();
  buffers_.ages(out, stream_);
}

std::shared_ptr<const Snapshot> Sampler::snapshot(double ahead) {
  const auto held = turn();
  return snapshots_.take(buffers_, ahead, stream_);
}

void Sampler::all_ages(size_t steps, int16_t* out) const {
  const auto held = turn();
  log_->read(*plan_, steps, out, stream_);
}

int64_t Sampler::broken() const {
  if (device() == Device::cpu) return 0;
  const auto held = turn();
  int32_t count = 0;
  read(&count, broken_, stream_);
  return count;
}

std::vector<double> Sampler::seconds() const {
  std::vector<double> out;
  if (!events_.empty()) events_.back().wait();
  for (size_t i = 1; i < events_.size(); ++i)
    out.push_back(events_[i].seconds_since(events_[i - 1]));
  return out;
}

const std::string& Sampler::plain() const { return captures_->reason(); }

}  // namespace flagdit
