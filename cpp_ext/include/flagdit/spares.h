// What runs leave that are over. On a GPU a run that is the same but for its texts and its noise takes
// up a whole sampler: its memory need not be taken again, and its steps are captured already. On a
// CPU a run that is no larger takes up memory: to touch new pages takes some of a short run.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "flagdit/sampler.h"

namespace flagdit {

// Of one loaded model; threads may share it. It keeps what the last run left.
class Spares {
 public:
  // Bytes of a CPU's memory that are kept at most: of more, new pages are little beside the steps.
  static constexpr int64_t kMostBytes = int64_t{256} << 20;

  // One that begins anew, as Sampler's constructor would make it; a new one if none fits.
  std::shared_ptr<Sampler> make(const std::shared_ptr<Session>& denoise, const Extent& extent,
                                const std::shared_ptr<const Plan>& plan, Conditions conditions,
                                const std::vector<float>& guidance, const float* start,
                                const Known* known = nullptr);
  // Takes one back: of a GPU, if it was run to its end. Nothing, if somebody else has it.
  void give(std::shared_ptr<Sampler> sampler);

 private:
  std::mutex lock_;
  std::shared_ptr<Sampler> kept_;
  Block memory_;
};

}  // namespace flagdit
