// Samplers of runs that are over. A run that is the same but for its texts and its noise takes one:
// its memory need not be taken again, and its steps are captured already.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "flagdit/sampler.h"

namespace flagdit {

// Of one loaded model; threads may share it. It keeps one sampler, and only of a GPU: on a CPU there
// is nothing to gain.
class Spares {
 public:
  // One that begins anew, as Sampler's constructor would make it; a new one if none fits.
  std::shared_ptr<Sampler> make(const std::shared_ptr<Session>& denoise, const Extent& extent,
                                const std::shared_ptr<const Plan>& plan, Conditions conditions,
                                const std::vector<float>& guidance, const float* start,
                                const Known* known = nullptr);
  // Takes one back. Nothing, if somebody else has it, or it was not run to its end.
  void give(std::shared_ptr<Sampler> sampler);

 private:
  std::mutex lock_;
  std::shared_ptr<Sampler> kept_;
};

}  // namespace flagdit
