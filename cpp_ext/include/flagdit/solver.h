// How a step becomes evaluations of the velocity, and what each of them adds to the latent.
//
// After an evaluation every token moves by
//   latent += dt * velocity + bend * slope
// where slope is the change of the token's velocity over time (History in advance.h). Every solver
// that joins two velocities has this form; with h the length of the step, r = h / previous h:
//
//             t      dt   bend
//   euler     t      h    0
//   midpoint  t      h/2  0
//             t+h/2  h/2  h^2/4  = h v2 - h/2 v1, back from the midpoint and along v2 instead
//   heun      t      h    0
//             t+h    0    h^2/2  = h/2 v2 - h/2 v1, the mean of both instead of v1
//   ab2       t      h    h^2/2  = h (1 + r/2) v - h r/2 v_previous
//
// The first slope of a run is 0, so the first step of ab2 is Euler's. A cached token goes straight,
// by h in all, in every solver; when it is computed again, its slope spans the time it was cached.
#pragma once

#include <cstdint>
#include <vector>

#include "flagdit/plan.h"

namespace flagdit {

enum class Solver { euler, midpoint, heun, ab2 };

struct Evaluation {
  int64_t step;  // index of the step that it is part of
  double t;      // where the velocity is evaluated
  double dt;     // how far the latent moves along it
  double bend;   // how far it moves along the slope, in time squared
  bool last;     // of its step

  bool operator==(const Evaluation& other) const;
};

// The evaluations of a plan, in order: one a step, two with midpoint and heun. All evaluations of a
// step compute the same tokens.
std::vector<Evaluation> plan_evaluations(const std::vector<Step>& steps, Solver solver);

}  // namespace flagdit
