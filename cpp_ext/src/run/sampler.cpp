#include "flagdit/sampler.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>

#include "captures.h"
#include "check_run.h"
#include "clock.h"
#include "flagdit/error.h"
#include "parts.h"
#include "work.h"

namespace flagdit {
namespace {

std::shared_ptr<Session> checked(std::shared_ptr<Session> denoise, const Extent& extent,
                                 const Plan& plan, const Conditions& conditions,
                                 const std::vector<float>& guidance) {
  check_sampler(*denoise, extent, plan, conditions, guidance);
  return denoise;
}

// With the tokens of the text, of a model whose text adds to the caches.
Extent with_text(Extent extent, const std::vector<Port>& ports, const Conditions& conditions) {
  for (const Bound& bound : conditions.constant) {
    const Port* port = find(ports, bound.name);
    for (size_t axis = 0; port != nullptr && axis < port->axes.size(); ++axis)
      if (port->axes[axis] == Axis("T")) extent.text = bound.tensor.shape[static_cast<int>(axis)];
  }
  return extent;
}

// Why steps cannot be captured; empty if they can.
std::string why_plain(const Session& denoise) {
  if (denoise.device() == Device::cpu) return "the CPU has no graphs";
  if (denoise.stream() == nullptr) return denoise.backend + " has no stream of its own";
  if (std::getenv("FLAGDIT_NO_GRAPHS") != nullptr) return "FLAGDIT_NO_GRAPHS is set";
  return "";
}

}  // namespace

int64_t Sampler::bytes(Session& denoise, const Extent& extent, const Plan& plan,
                       const Conditions& conditions) {
  Arena counting(denoise.device());
  const Buffers buffers(denoise.ports(), with_text(extent, denoise.ports(), conditions), plan.keeps,
                        counting);
  const Parts parts(denoise, extent, plan, conditions, buffers, counting);
  return counting.used();
}

Sampler::Sampler(std::shared_ptr<Session> denoise, const Extent& extent,
                 std::shared_ptr<const Plan> plan, Conditions conditions,
                 const std::vector<float>& guidance, const float* start, const Known* known,
                 Block before)
    : denoise_(checked(std::move(denoise), extent, *plan, conditions, guidance)),
      plan_(std::move(plan)),
      stream_(denoise_->stream()),
      conditions_(std::move(conditions)),
      arena_(denoise_->device(), bytes(*denoise_, extent, *plan_, conditions_), std::move(before)),
      buffers_(denoise_->ports(), with_text(extent, denoise_->ports(), conditions_), plan_->keeps,
               arena_),
      parts_(std::make_unique<Parts>(*denoise_, extent, *plan_, conditions_, buffers_, arena_)),
      captures_(std::make_unique<Captures>(known_works(), why_plain(*denoise_))) {
  if (const char* why = plan_->rest_text ? buffers_.why_no_rest() : nullptr)
    throw Error(Fault::bundle, std::string("the text cannot rest: ") + why);
  for (size_t call = 0; call < buffers_.calls.size(); ++call)
    moved_.push_back(buffers_.moved(call + 1));
  parts_->prepare();
  begin(guidance, start, known);
}

// A plan that decides as it runs has no steps that are known.
std::vector<Work> Sampler::known_works() const {
  return parts_->decision ? std::vector<Work>() : works_of(*plan_, buffers_.calls.size());
}

void Sampler::begin(const std::vector<float>& guidance, const float* start, const Known* known) {
  const auto held = turn();
  write(parts_->guidance, guidance.data(), stream_);
  if (parts_->skipping)
    write(*parts_->skipping, guidance.data() + parts_->guidance.shape[0], stream_);
  parts_->tables.fill(*plan_, stream_);
  parts_->calls.fill(stream_);
  parts_->forecasts.fill(known_works(), stream_);
  if (parts_->kept) parts_->kept->begin();
  buffers_.begin(start, conditions_.placed, stream_);
  if (buffers_.known) {
    if (known == nullptr)
      throw std::invalid_argument("Sampler: known: got none, and the plan keeps it");
    buffers_.begin_known(known->patches.data(), known->velocity.data(), stream_);
  }
}

// Between steps: what steps were captured as reads the same addresses. The step is dense, so all
// that is cached is of these places after it.
void Sampler::place_anew(int64_t phase) {
  const std::vector<Bound>& anew = conditions_.later.at(phase);
  parts_->calls.place_anew(anew, stream_);
  buffers_.place_anew(anew, stream_);
}

bool Sampler::fits(const Session& denoise, const Extent& extent, const Plan& plan,
                   const Conditions& conditions) const {
  const auto alike = [](const std::vector<Bound>& a, const std::vector<Bound>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Bound& x, const Bound& y) {
      return x.name == y.name && x.tensor.dtype == y.tensor.dtype &&
             x.tensor.shape == y.tensor.shape;
    });
  };
  const auto& later = conditions_.later;
  const bool phases = std::equal(later.begin(), later.end(), conditions.later.begin(),
                                 conditions.later.end(), [&](const auto& a, const auto& b) {
                                   return a.first == b.first && alike(a.second, b.second);
                                 });
  const Extent& own = buffers_.extent;
  return denoise_.get() == &denoise && own.layout == extent.layout &&
         own.samples == extent.samples && own.branches == extent.branches &&
         own.renormalise == extent.renormalise && *plan_ == plan &&
         alike(conditions_.constant, conditions.constant) &&
         alike(conditions_.timed, conditions.timed) &&
         alike(conditions_.placed, conditions.placed) && phases;
}

void Sampler::again(Conditions conditions, const std::vector<float>& guidance, const float* start,
                    const Known* known) {
  if (!done()) throw std::invalid_argument("Sampler: again: got one that is not done");
  conditions_ = std::move(conditions);
  next_ = evaluation_ = 0;
  owed_ = false;
  events_.clear();
  captures_->again();
  {
    const auto held = turn();
    arena_.clear(stream_);
  }
  begin(guidance, start, known);
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
  const Step& planned = plan_->steps[index];
  const Step step = !parts_->decision ? planned
                                      : parts_->decision->decide(*plan_, planned, buffers_,
                                                                 parts_->tables, stream_);
  const int64_t planned_branches = plan_->branches(step.index);
  const int64_t branches = std::max<int64_t>(planned_branches, owed_ ? 2 : 1);
  owed_ = branches > 1 && step.active == 0;
  const auto calls = std::min(buffers_.calls.size(), static_cast<size_t>(branches));
  const Work work(*plan_, step, evaluation_, calls);
  evaluation_ = work.end;
  spent_ = 0.0;
  const auto mark = [&] {
    if (device() == Device::cpu) return;
    events_.emplace_back(device());
    events_.back().record(stream_);
  };
  if (events_.empty()) mark();
  if (plan_->places_anew(step.index)) place_anew(plan_->phase[index]);
  if (plan_->turns(step.index)) buffers_.turn(stream_);
  if (parts_->decision) parts_->forecasts.next(work, stream_);
  const int64_t nodes = captures_->launch(work, parts_->calls.settled(step.active, work.calls),
                                          stream_, [&] { enqueue(work); });
  mark();
  StepDone out{step, 0, 0, spent_, 0.0, nodes};
  if (step.active > 0) {
    out.evaluations = static_cast<int64_t>(work.end - work.first);
    out.branches = std::min(branches, buffers_.extent.branches);
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
  parts_->log.read(*plan_, steps, out, stream_);
}

int64_t Sampler::broken() const {
  if (device() == Device::cpu) return 0;
  const auto held = turn();
  int32_t count = 0;
  read(&count, parts_->broken, stream_);
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
