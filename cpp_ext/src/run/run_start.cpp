// What a run begins with: noise, a picture on its way from noise, or a smaller one made larger.
#include "clock.h"
#include "flagdit/autoencoder.h"
#include "flagdit/noise.h"
#include "flagdit/run.h"
#include "flagdit/upsample.h"

namespace flagdit {

std::vector<float> Run::noise() const {
  if (!options_.noise.empty()) return options_.noise;
  const Layout& full = options_.legs.back().layout;
  const auto samples = static_cast<int64_t>(options_.seeds.size());
  std::vector<float> noise(static_cast<size_t>(samples * full.values()));
  normal_noise({noise.data(), DType::f32, {samples, full.values()}}, options_.seeds, nullptr);
  return noise;
}

void Run::encode_canvas() {
  const Clock::time_point start = Clock::now();
  const Canvas& canvas = *options_.canvas;
  if (stages_.encode == nullptr) {
    data_ = canvas.image;
  } else {
    data_ = flagdit::encode(*stages_.encode, {1, 3, canvas.height, canvas.width, canvas.image},
                            options_.downscale)
                .values;
  }
  if (options_.lets_go) stages_.encode = nullptr;
  seconds_.encode = seconds_since(start);
}

std::vector<float> Run::start(size_t leg, std::vector<float> noise) const {
  const Layout& full = options_.legs.back().layout;
  const auto samples = static_cast<int64_t>(options_.seeds.size());
  if (options_.canvas) {
    const double begin = options_.legs.back().plan.steps.front().t;
    const auto gone = static_cast<float>(begin), rest = static_cast<float>(1.0 - begin);
    for (size_t i = 0; i < noise.size(); ++i) {
      const float own = rest * noise[i];
      noise[i] = gone * data_[i % data_.size()] + own;
    }
  }
  if (options_.legs.size() == 1) return noise;
  const int64_t factor = options_.coarse_factor;
  const int64_t planes = samples * full.channels * full.frames;
  if (leg == 0) return coarse_noise(noise, planes, full.height, full.width, factor);
  const std::vector<float> larger =
      upsample(coarse_, planes, full.height / factor, full.width / factor, factor);
  const auto until = static_cast<float>(options_.coarse_until);
  const auto rest = static_cast<float>(1.0 - options_.coarse_until);
  for (size_t i = 0; i < noise.size(); ++i) {
    const float own = rest * noise[i];
    noise[i] = until * larger[i] + own;
  }
  return noise;
}

}  // namespace flagdit
