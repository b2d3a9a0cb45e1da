// One generation: planned when it is made, run a step at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "flagdit/canvas.h"
#include "flagdit/conditions.h"
#include "flagdit/layout.h"
#include "flagdit/make_plan.h"
#include "flagdit/sampler.h"
#include "flagdit/spares.h"

namespace flagdit {

// What a run goes through, loaded from one bundle; none of it holds the state of a run.
struct Stages {
  std::vector<std::shared_ptr<Session>> texts;  // encoders
  std::shared_ptr<Session> condition, place, denoise;
  std::shared_ptr<Session> encode{};  // for a run that begins with a picture; null: it is pixels
  std::shared_ptr<Spares> spares = std::make_shared<Spares>();
};

// A part of a run at one size: a plain run has one, a run that begins coarse has two.
struct Leg {
  Layout layout;
  Plan plan;
  Placing placing{};
};

// All that a run needs to know besides its graphs.
struct RunOptions {
  std::vector<Leg> legs;           // the last one is at the full size
  int64_t coarse_factor = 1;       // of width and height of the first of two legs
  double coarse_until = 0.0;       // the time that the enlarged picture is brought to with noise
  std::vector<uint64_t> seeds;     // one a sample
  int64_t branches = 1;            // of guidance, without one that skips layers
  double guidance = 1.0;           // scale
  std::vector<int64_t> skipped{};  // layers that a branch of guidance skips
  double skip_guidance = 0.0;      // its scale
  std::vector<int64_t> guided;     // channels that guidance touches
  Renormalise renormalise = Renormalise::none;  // of guided velocities
  std::map<std::string, float> pads{};          // see `conditions`
  std::shared_ptr<const Canvas> canvas{};       // what it begins with, and what of it stays
  int64_t downscale = 1;                        // pixels of a latent's side
  std::vector<float> noise{};                   // (B, C, F, H, W) in place of the seeds'
  int64_t tile = 0;                             // pixels, see autoencoder.h
  bool lets_go = false;  // of the sessions `texts` and `condition`, once it has what they make
};

// Seconds by stage; see `Run::seconds`.
struct RunSeconds {
  double text = 0.0, condition = 0.0, allocate = 0.0, encode = 0.0;
};

class Run {
 public:
  // texts: a row for each sample of each branch, the conditional ones first.
  Run(Stages stages, RunOptions options, Texts texts);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  int64_t total() const { return total_; }  // steps of all legs
  int64_t count() const { return done_; }   // that are done
  bool done() const { return done_ == total_; }
  bool begun() const { return sampler_ != nullptr; }  // there is a state

  // The next step; the first one encodes the text before. Throws Error: of the number if the
  // latents are no numbers any more (on a GPU `latents` does), and as `denoise` does;
  // std::invalid_argument after that, within
  // a step, and when all are done.
  StepDone step();

  const RunOptions& options() const { return options_; }
  size_t leg() const { return leg_; }  // that the last step was of
  // Of that leg: whoever looks at its state longer than the leg lasts keeps it.
  std::shared_ptr<const Sampler> sampler() const;
  RunSeconds seconds() const { return seconds_; }
  // Of each step that was done, as a GPU took them; waits for it. None of a CPU.
  std::vector<double> step_seconds() const;
  int64_t text_tokens() const { return text_tokens_; }  // of the longest text

  // Throws Error of the number on a GPU, where `step` does not look.
  // (B, C, F, H, W) of the leg, moved `ahead` in time along the velocities: 1 - t_next of the last
  // step is a preview of the end.
  std::vector<float> latents(double ahead = 0.0) const;
  // The same, kept while the run goes on; see Sampler.
  std::shared_ptr<const Snapshot> snapshot(double ahead);

 private:
  void check_latent() const;
  void prepare();
  void begin(size_t leg);
  std::vector<Bound> placed_in(const Leg& leg, int64_t phase) const;
  std::vector<float> start(size_t leg, std::vector<float> noise) const;
  std::vector<float> noise() const;
  void encode_canvas();
  Conditions conditions_of(const Leg& leg) const;
  std::vector<float> guidance(const Plan& plan) const;

  Stages stages_;
  RunOptions options_;
  Texts texts_;
  std::vector<Bound> constant_, timed_;
  std::shared_ptr<Sampler> sampler_;
  RunSeconds seconds_;
  std::vector<double> before_;  // seconds of the steps of the leg before
  std::vector<float> data_;     // (C, H, W) of the picture that it begins with
  std::vector<float> coarse_;   // what the first of two legs has left
  size_t leg_ = 0, entry_ = 0;
  std::atomic<bool> under_way_{false};
  int64_t total_ = 0, done_ = 0, text_tokens_ = 0;
  double reached_ = 0.0;  // time, by the steps that are done
};

}  // namespace flagdit
