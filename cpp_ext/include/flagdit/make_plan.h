// All that a run decides beforehand, as plain data: a sampler needs no option besides.
#pragma once

#include <cstdint>
#include <vector>

#include "flagdit/advance.h"
#include "flagdit/plan.h"
#include "flagdit/regions.h"
#include "flagdit/skip_layers.h"
#include "flagdit/solver.h"
#include "flagdit/times.h"

namespace flagdit {

// What a run remembers of every token besides its last velocity.
struct Keeps {
  bool rate = false;         // when that was computed, and how far it was off: two numbers
  bool slope = false;        // how it changed: as many values as the velocity
  bool curve = false;        // how the slope changed: as many again, and a number
  bool difference = false;   // of guidance, where branches are apart: as many as the velocity
  bool cache_slope = false;  // how keys and values changed, and the last computed ones
  bool known = false;        // whose velocity is given, and that: a flag, and as many values

  bool operator==(const Keeps& other) const;
};

// How the tokens of the next head are chosen, see select.h and dilate.h.
struct Ranking {
  Metric metric = Metric::change;
  Mode mode = Mode::corrected;
  double starvation = 0.1;  // how fast a token that was left out gains priority
  double dilation = 0.0;    // share of its neighbours' scores that a token has at least; 0 is off

  bool operator==(const Ranking& other) const;
};

// How velocities of the tail go on, see History in advance.h.
struct Forecast {
  int64_t order = 0;  // 0: as last computed, 1: along a line, 2: along a parabola
  double clamp = 0.5;
  bool keep_norm = false;

  bool operator==(const Forecast& other) const;
};

// What a step may decide when it runs, by the errors that are left; 0 turns either off.
struct Budget {
  double error_budget = 0.0;  // a step computes more tokens until the mean error is below this
  double gate = 0.0;          // a step whose error would be below this makes no call
  int64_t bucket = 1;         // patches are computed in multiples of this
  int64_t head_multiple = 1;  // and then slots of the head, pinned ones included, in those of this

  bool operator==(const Budget& other) const;
};

// S steps.
struct Plan {
  std::vector<Step> steps;
  std::vector<Evaluation> evaluations;  // calls of `denoise`, in order: one or two a step
  std::vector<double> damping;  // (S,): share of the line that cached keys and values go along, 0
                                // outside RAS steps
  std::vector<bool> unconditional;  // (S,): whether a step runs that branch of guidance, or reuses
                                    // the difference
  std::vector<bool> skips;     // (S,): whether a step runs the branch that skips layers, too; one
                               // that does runs all branches
  std::vector<int64_t> phase;  // (S,): of the model's phases, the one that a step's tokens are
                               // placed for; a step that places them anew is dense
  int64_t tokens = 0, pinned = 0;
  int64_t max_age = -1;           // -1: no bound
  std::vector<int32_t> capacity;  // (S, capacity_columns): patches that the steps after each one
                                  // can still recompute (refresh.h)
  int64_t capacity_columns = 0;
  Keeps keeps;
  Ranking ranking;
  Forecast forecast;
  Budget budget;
  bool rest_text = false;  // whether RAS steps leave the text's keys and values as they are

  // Whether the text rests in a step that computes so many slots.
  bool rests_with(int64_t active) const { return rest_text && active < tokens; }

  // The time that the scores after a step look ahead to: of the next step's last evaluation, which
  // Heun puts at its end, where what was computed in this step would otherwise count as known.
  double scored_at(const Step& step) const;

  // Branches of guidance that a step runs: the conditional one, the unconditional, one that skips layers.
  int64_t branches(int64_t step) const;
  // Whether any step skips layers.
  bool skips_layers() const;

  // Whether a step makes the first call of `denoise`, the second or the third, where branches are
  // apart.
  bool runs(int64_t call, int64_t step) const;

  // Whether the next step after this one that makes that call reads what is cached.
  bool precedes_ras(int64_t call, int64_t step) const;

  // Whether tokens are placed anew before a step: it is of another phase than the one before.
  bool places_anew(int64_t step) const;
  // Whether the guided velocity of a step is of another field than before, since a branch that skips
  // layers begins or has ended: the step is dense, and what is known of changes begins again.
  bool turns(int64_t step) const;

  bool operator==(const Plan& other) const;
};

// What a plan is made of. Pinned tokens carry no latent, one a line of patches, and are computed in
// every step; without any, the picture is a square if its patches make one.
struct PlanRequest {
  Regions regions;
  Steps steps;
  int64_t tokens = 0, pinned = 0;
  Number shift = 1.0;  // of a number of steps
  Solver solver = Solver::euler;
  std::vector<Weights> weights{};  // of each step, in place of the solver's own
  Span span{};                     // the times that it begins and ends at
  int64_t head_multiple = 1;       // of the model (model.h)
  std::vector<double> phases{};    // times of the model from which on tokens are placed anew; the
                                   // first, 0, may be left out where there is no other
  StepRange skips{};               // steps that run a branch that skips layers
};

// The phase of each step: the last that begins at the step's time or before. One phase holds for
// all evaluations of a step, since a solver joins their velocities, which have to be of one field.
std::vector<int64_t> phases_of(const std::vector<double>& times, const std::vector<double>& phases);

// Throws Error if an option is out of bounds, or contradicts another.
Plan make_plan(const PlanRequest& request);

}  // namespace flagdit
