#include "flagdit/solver.h"

namespace flagdit {
namespace {

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

}  // namespace

bool Evaluation::operator==(const Evaluation& other) const {
  return step == other.step && t == other.t && dt == other.dt && bend == other.bend &&
         last == other.last;
}

std::vector<Evaluation> plan_evaluations(const std::vector<Step>& steps, Solver solver) {
  std::vector<Evaluation> out;
  for (const Step& step : steps) append(out, step, solver);
  return out;
}

}  // namespace flagdit
