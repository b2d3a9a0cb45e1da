#include "flagdit/sampler.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>

#include "flagdit/adapt.h"
#include "flagdit/checked.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Tensor entry_of(const Tensor& timed, const Arena* = nullptr) {
  Tensor one = timed;
  one.shape = Shape(timed.shape.sizes.data() + 1, timed.shape.rank - 1);
  return one;
}

// The entries of this evaluation that a call reads, (rows, ...).
std::vector<Bound> current_of(const std::vector<Bound>& timed, int64_t rows, Arena& arena) {
  std::vector<Bound> out;
  for (const Bound& bound : timed) {
    Shape shape = entry_of(bound.tensor).shape;
    shape.sizes[0] = rows;
    out.push_back({bound.name, arena.make(bound.tensor.dtype, shape)});
  }
  return out;
}

}  // namespace

int64_t Sampler::bytes(const Session& denoise, const Extent& extent, const Plan& plan,
                       const std::vector<Bound>& placed) {
  Arena counting;
  const Buffers buffers(denoise.ports(), extent, plan.keeps, placed, counting);
  return counting.used();
}

}  // namespace flagdit
