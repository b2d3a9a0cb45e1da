#include "flagdit/run.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "cast.h"
#include "clock.h"
#include "flagdit/checked.h"
#include "flagdit/error.h"
#include "outputs.h"

namespace flagdit {
namespace {

void check_options(const RunOptions& options, const Texts& texts) {
  check_range("Run: branches", options.branches, options.skipped.empty() ? 1 : 2, 2);
  for (const Leg& leg : options.legs)
    if (leg.plan.skips_layers() && options.skipped.empty())
      refuse("Run: skipped", "none", "layers, for a plan that skips some");
  check_range("Run: texts", static_cast<int64_t>(texts.all.size()), 1, INT32_MAX);
  for (const size_t text : texts.rows)
    check_range("Run: rows", static_cast<int64_t>(text), 0,
                static_cast<int64_t>(texts.all.size()) - 1);
  const Layout& full = options.legs.back().layout;
  for (const int64_t channel : options.guided)
    check_range("Run: guided", channel, 0, full.channels - 1);
  check_range("Run: legs", static_cast<int64_t>(options.legs.size()), 1, options.canvas ? 1 : 2);
  const int64_t values = static_cast<int64_t>(options.seeds.size()) * full.values();
  if (!options.noise.empty())
    check_range("Run: values of noise", static_cast<int64_t>(options.noise.size()), values, values);
  if (options.canvas) {
    const Canvas& canvas = *options.canvas;
    const int64_t width = full.width * options.downscale, height = full.height * options.downscale;
    check_range("Run: width of the canvas", canvas.width, width, width);
    check_range("Run: height of the canvas", canvas.height, height, height);
  }
  for (const Leg& leg : options.legs)
    check_range("Run: steps of a leg", static_cast<int64_t>(leg.plan.steps.size()), 1, INT32_MAX);
  if (options.legs.size() == 1) return;
  check_range("Run: coarse_factor", options.coarse_factor, 1, 64);
  Layout larger = options.legs.front().layout;
  larger.height *= options.coarse_factor;
  larger.width *= options.coarse_factor;
  if (!(larger == full))
    refuse("Run: legs", "layouts of other sizes",
           "one that is " + std::to_string(options.coarse_factor) + " times as large as the other");
}

// The first rows of each entry of (S, R, ...).
Bound first_rows(const Bound& timed, int64_t rows) {
  const Tensor& all = timed.tensor;
  if (rows == all.shape[1]) return timed;
  Shape shape = all.shape;
  shape.sizes[1] = rows;
  Bound out = made(timed.name, all.dtype, shape);
  const int64_t from = bytes_of(all.dtype, all.shape) / all.shape[0];
  const int64_t to = bytes_of(all.dtype, shape) / all.shape[0];
  for (int64_t entry = 0; entry < all.shape[0]; ++entry)
    std::memcpy(out.tensor.as<std::byte>() + entry * to, all.as<std::byte>() + entry * from,
                static_cast<size_t>(to));
  return out;
}

// Tokens of the text in an output of `condition`, if it has an axis of them.
int64_t text_length(const Port& port, const Tensor& made, int64_t otherwise) {
  const auto at = std::find(port.axes.begin(), port.axes.end(), Axis(std::string("T")));
  return at == port.axes.end() ? otherwise : made.shape[static_cast<int>(at - port.axes.begin())];
}

}  // namespace

Run::Run(Stages stages, RunOptions options, Texts texts)
    : stages_(std::move(stages)), options_(std::move(options)), texts_(std::move(texts)) {
  for (const Leg& leg : options_.legs) total_ += static_cast<int64_t>(leg.plan.steps.size());
  const size_t rows = options_.seeds.size() * static_cast<size_t>(options_.branches);
  if (options_.legs.empty() || rows == 0 || texts_.rows.size() != rows)
    throw std::invalid_argument("Run: got " + std::to_string(options_.legs.size()) + " legs, " +
                                std::to_string(options_.seeds.size()) + " seeds and texts of " +
                                std::to_string(texts_.rows.size()) + " rows, allowed " +
                                std::to_string(rows) + " rows");
  check_options(options_, texts_);
}

Run::~Run() { stages_.spares->give(std::move(sampler_)); }

std::shared_ptr<const Sampler> Run::sampler() const {
  if (sampler_ == nullptr) throw std::invalid_argument("Run: it has not begun");
  return sampler_;
}

StepDone Run::step() {
  if (done()) throw std::invalid_argument("Run: step: got none left");
  // Left set by what fails, as in Sampler::step.
  if (under_way_.exchange(true))
    throw std::invalid_argument(
        "Run: step: got another while one is under way, or after one that failed; make another "
        "run");
  if (done_ == 0 && sampler_ == nullptr) prepare();
  if (sampler_ != nullptr && sampler_->done() && leg_ + 1 < options_.legs.size()) {
    const double left = 1.0 - options_.legs[leg_].plan.steps.back().t_next;
    coarse_ = latents(left);
    before_ = sampler_->seconds();
    sampler_.reset();  // before the larger one takes its memory
    entry_ += options_.legs[leg_].plan.evaluations.size();
    begin(leg_ + 1);
  } else if (sampler_ == nullptr) {
    begin(0);
  }
  const StepDone out = sampler_->step();
  ++done_;
  reached_ = out.step.t_next;
  if (sampler_->device() == Device::cpu) check_latent();
  under_way_ = false;
  return out;
}

// On a GPU the numbers of all steps are looked at when latents are: nothing waits between steps.
void Run::check_latent() const {
  char when[96];
  std::snprintf(when, sizeof when, "after step %lld of %lld (time %.3g)",
                static_cast<long long>(done_), static_cast<long long>(total_), reached_);
  const std::string engine = "denoise on " + stages_.denoise->backend;
  const std::string& precision = stages_.denoise->precision;
  const Tensor& latent = sampler_->state().latent;
  if (latent.device == Device::cpu) {
    const int64_t pinned = options_.legs[leg_].layout.pinned();
    check_numbers(slots_of(latent, pinned, latent.shape[0] - pinned), "the latent", when, engine,
                  precision);
  } else if (const int64_t broken = sampler_->broken(); broken > 0) {
    refuse_numbers(broken, "", "the latent, over all steps,", when, engine, precision);
  }
}

std::vector<double> Run::step_seconds() const {
  std::vector<double> out = before_;
  if (sampler_ == nullptr) return out;
  const std::vector<double> own = sampler_->seconds();
  out.insert(out.end(), own.begin(), own.end());
  return out;
}

void Run::prepare() {
  if (options_.canvas) encode_canvas();
  Clock::time_point start = Clock::now();
  const Features features = encode(stages_.texts, texts_.all);
  seconds_.text = seconds_since(start);
  text_tokens_ = features.longest;
  if (options_.lets_go) stages_.texts.clear();
  start = Clock::now();
  std::vector<float> times;
  for (const Leg& leg : options_.legs)
    for (const Evaluation& evaluation : leg.plan.evaluations)
      times.push_back(static_cast<float>(evaluation.t));
  const SkippingRows skipping{options_.skipped,
                              options_.skipped.empty() ? 0 : options_.seeds.size()};
  for (Bound& made : conditions(*stages_.condition, *stages_.denoise, times, texts_, features,
                                options_.pads, skipping)) {
    const bool timed = stages_.condition->port(made.name).starts("S");
    (timed ? timed_ : constant_).push_back(std::move(made));
  }
  seconds_.condition = seconds_since(start);
  // `condition` may put several texts behind each other; with pads it is they that lengthen one.
  for (const Bound& made : options_.pads.empty() ? constant_ : std::vector<Bound>())
    text_tokens_ = text_length(stages_.condition->port(made.name), made.tensor, text_tokens_);
  if (options_.lets_go) stages_.condition = nullptr;
}

std::vector<Bound> Run::placed_in(const Leg& leg, int64_t phase) const {
  Placing placing = leg.placing;
  placing.phase = phase;
  std::vector<Bound> out;
  for (const Bound& made : placed(*stages_.place, leg.layout, placing))
    out.push_back(cast(made, stages_.denoise->port(made.name).dtype));
  return out;
}

Conditions Run::conditions_of(const Leg& own) const {
  const int64_t branches = options_.branches + (own.plan.skips_layers() ? 1 : 0);
  const int64_t rows = branches * static_cast<int64_t>(options_.seeds.size());
  Conditions given;
  for (const Bound& made : constant_)
    given.constant.push_back({made.name, slots_of(made.tensor, 0, rows), made.memory});
  for (const Bound& timed : timed_) {
    const auto count = static_cast<int64_t>(own.plan.evaluations.size());
    const Tensor entries = slots_of(timed.tensor, static_cast<int64_t>(entry_), count);
    given.timed.push_back(first_rows({timed.name, entries, timed.memory}, rows));
  }
  for (const Bound& made : placed_in(own, own.plan.phase.front()))
    (stages_.place->port(made.name).starts("N") ? given.placed : given.constant).push_back(made);
  for (const Step& step : own.plan.steps) {
    const int64_t phase = own.plan.phase[static_cast<size_t>(step.index)];
    if (own.plan.places_anew(step.index)) given.later[phase] = placed_in(own, phase);
  }
  return given;
}

void Run::begin(size_t leg) {
  const Clock::time_point begun = Clock::now();
  leg_ = leg;
  const Leg& own = options_.legs[leg];
  const auto samples = static_cast<int64_t>(options_.seeds.size());
  const std::vector<float> noise = this->noise(), first = start(leg, noise);
  Known known;
  if (own.plan.keeps.known) {
    known = {options_.canvas->known(own.layout, options_.downscale), noise};
    for (size_t i = 0; i < known.velocity.size(); ++i)
      known.velocity[i] = data_[i % data_.size()] - known.velocity[i];
  }
  sampler_ = stages_.spares->make(
      stages_.denoise,
      Extent{own.layout, samples, options_.branches + (own.plan.skips_layers() ? 1 : 0),
             options_.renormalise},
      std::make_shared<const Plan>(own.plan), conditions_of(own), guidance(own.plan), first.data(),
      &known);
  seconds_.allocate += seconds_since(begun);
}

std::vector<float> Run::guidance(const Plan& plan) const {
  const Layout& layout = options_.legs.back().layout;
  const auto values = static_cast<size_t>(layout.patch_values());
  const auto pixels = static_cast<size_t>(layout.patch_values() / layout.channels);
  std::vector<float> scale(values, 1.0f);
  scale.resize(plan.skips_layers() ? 2 * values : values, 0.0f);
  for (const int64_t channel : options_.guided) {
    const size_t first = static_cast<size_t>(channel) * pixels;
    for (size_t i = first; i < first + pixels && i < values; ++i) {
      scale[i] = static_cast<float>(options_.guidance);
      if (scale.size() > values) scale[values + i] = static_cast<float>(options_.skip_guidance);
    }
  }
  return scale;
}

std::vector<float> Run::latents(double ahead) const {
  const std::shared_ptr<const Sampler> own = sampler();
  if (own->device() != Device::cpu) check_latent();
  const Extent& extent = own->state().extent;
  std::vector<float> out(static_cast<size_t>(extent.samples * extent.layout.values()));
  own->latents(out.data(), ahead);
  return out;
}

std::shared_ptr<const Snapshot> Run::snapshot(double ahead) {
  sampler();
  return sampler_->snapshot(ahead);
}

}  // namespace flagdit
