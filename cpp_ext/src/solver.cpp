#include "flagdit/solver.h"

#include <cmath>
#include <string>

#include "check.h"

namespace flagdit {
namespace {

constexpr double kMostWeight = 100.0;

void append(std::vector<Evaluation>& out, const Step& step, Solver solver) {
  const double t = step.t, h = step.t_next - step.t;
  switch (solver) {
    case Solver::euler:
      out.push_back({step.index, t, h, 0.0, true});
      return;
    case Solver::midpoint:
      out.push_back({step.index, t, h / 2, 0.0, false});
      out.push_back({step.index, t + h / 2, h / 2, h * h / 4, true});
      return;
    case Solver::heun:
      out.push_back({step.index, t, h, 0.0, false});
      out.push_back({step.index, step.t_next, 0.0, h * h / 2, true});
      return;
    case Solver::ab2:
      out.push_back({step.index, t, h, h * h / 2, true});
      return;
  }
}

// Equal steps of a grid differ in their last bits.
bool grows_at_the_end(const std::vector<Step>& steps) {
  if (steps.size() < 2) return false;
  const Step &last = steps.back(), &before = steps[steps.size() - 2];
  return last.t_next - last.t > (before.t_next - before.t) * (1 + 1e-9);
}

void check_weights(const std::vector<Step>& steps, Solver solver,
                   const std::vector<Weights>& weights) {
  if (solver != Solver::euler && solver != Solver::ab2) {
    refuse("plan_evaluations: weights", "some, with a solver of two evaluations", "euler or ab2");
  }
  if (weights.size() != steps.size()) {
    refuse("plan_evaluations: weights", std::to_string(weights.size()),
           std::to_string(steps.size()) + ", one for each step");
  }
  for (const Weights& w : weights) {
    for (double value : {w.velocity, w.slope, w.curve}) {
      if (!(std::abs(value) <= kMostWeight)) {  // also catches NaN
        refuse("plan_evaluations: weights", std::to_string(value), "-100 to 100");
      }
    }
  }
}

}  // namespace

bool Evaluation::operator==(const Evaluation& other) const {
  return step == other.step && t == other.t && dt == other.dt && bend == other.bend &&
         last == other.last && arc == other.arc;
}

std::vector<Evaluation> plan_evaluations(const std::vector<Step>& steps, Solver solver,
                                         const std::vector<Weights>& weights) {
  std::vector<Evaluation> out;
  if (!weights.empty()) check_weights(steps, solver, weights);
  for (size_t i = 0; i < weights.size(); ++i) {
    const double t = steps[i].t, h = steps[i].t_next - t;
    const Weights& w = weights[i];
    out.push_back({steps[i].index, t, h * w.velocity, h * h * w.slope, true, h * h * h * w.curve});
  }
  if (!weights.empty()) return out;
  for (const Step& step : steps) append(out, step, solver);
  if (solver == Solver::ab2 && grows_at_the_end(steps)) out.back().bend = 0.0;
  return out;
}

}  // namespace flagdit
