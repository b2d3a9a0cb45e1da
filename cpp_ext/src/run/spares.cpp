#include "flagdit/spares.h"

#include <utility>

namespace flagdit {

std::shared_ptr<Sampler> Spares::make(const std::shared_ptr<Session>& denoise, const Extent& extent,
                                      const std::shared_ptr<const Plan>& plan,
                                      Conditions conditions, const std::vector<float>& guidance,
                                      const float* start, const Known* known) {
  std::shared_ptr<Sampler> kept;
  Block memory;
  {
    const std::lock_guard<std::mutex> guard(lock_);
    kept = std::move(kept_);
    memory = std::exchange(memory_, {});
  }
  // One that does not fit goes, before the new one takes its memory.
  if (kept != nullptr && !kept->fits(*denoise, extent, *plan, conditions)) kept = nullptr;
  if (kept == nullptr)
    return std::make_shared<Sampler>(denoise, extent, plan, std::move(conditions), guidance, start,
                                     known, std::move(memory));
  kept->again(std::move(conditions), guidance, start, known);
  return kept;
}

void Spares::give(std::shared_ptr<Sampler> sampler) {
  if (sampler == nullptr || sampler.use_count() > 1) return;
  if (sampler->device() == Device::cpu) {
    Block memory = sampler->block();
    sampler = nullptr;  // so that nobody else has it
    const std::lock_guard<std::mutex> guard(lock_);
    if (memory.bytes <= kMostBytes) memory_ = std::move(memory);
  } else if (sampler->done()) {
    const std::lock_guard<std::mutex> guard(lock_);
    kept_ = std::move(sampler);
  }
}

}  // namespace flagdit
