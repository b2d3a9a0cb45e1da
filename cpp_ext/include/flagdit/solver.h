// How a step becomes evaluations of the velocity, and what each of them adds to the latent.
//
// After an evaluation every token moves by
//   latent += dt * velocity + bend * slope + arc * curve
// where slope and curve are the divided differences of the token's last velocities over time
// (History in advance.h). Every solver that joins two velocities has this form, with an arc of 0;
// with h the length of the step, r = h / previous h:
//
//             t      dt   bend
//   euler     t      h    0
//   midpoint  t      h/2  0
//             t+h/2  h/2  h^2/4  = h v2 - h/2 v1, back from the midpoint and along v2 instead
//   heun      t      h    0
//             t+h    0    h^2/2  = h/2 v2 - h/2 v1, the mean of both instead of v1
//   ab2       t      h    h^2/2  = h (1 + r/2) v - h r/2 v_previous
//
// The first slope of a run is 0, so the first step of ab2 is Euler's. So is its last one if that is
// longer than the step before it: a slope says little of a step that long, and at the end of the
// flow, where velocities turn, it says the wrong thing (docs/solvers.md).
//
// A plan may give every step weights of its own instead, such as calibration finds:
//   dt = h * velocity, bend = h^2 * slope, arc = h^3 * curve
// so that (1, 0, 0) is Euler's step and (1, 1/2, 0) that of ab2.
//
// A cached token goes straight, by dt in all: h in every solver, and with weights h times that of
// the velocity. When it is computed again, its slope spans the time it was cached.
#pragma once

#include <cstdint>
#include <vector>

#include "flagdit/plan.h"

namespace flagdit {

enum class Solver { euler, midpoint, heun, ab2 };

struct Evaluation {
  int64_t step;      // index of the step that it is part of
  double t;          // where the velocity is evaluated
  double dt;         // how far the latent moves along it
  double bend;       // how far it moves along the slope, in time squared
  bool last;         // of its step
  double arc = 0.0;  // how far it moves along the curve, in time cubed

  bool operator==(const Evaluation& other) const;
};

// Of one step, in units of its length to the power of 1, 2 and 3.
struct Weights {
  double velocity, slope, curve;
};

// The evaluations of a plan, in order: one a step, two with midpoint and heun. All evaluations of a
// step compute the same tokens. weights: one for each step, or none; only for euler and ab2, which
// they take the place of.
std::vector<Evaluation> plan_evaluations(const std::vector<Step>& steps, Solver solver,
                                         const std::vector<Weights>& weights = {});

}  // namespace flagdit
