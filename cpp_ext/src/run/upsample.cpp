#include "flagdit/upsample.h"

#include <algorithm>
#include <cmath>

namespace flagdit {
namespace {

constexpr int64_t kReach = 2;  // source values to either side that a cubic sees

double cubic(double x) {
  x = std::abs(x);
  if (x >= 2.0) return 0.0;
  return x < 1.0 ? 1.5 * x * x * x - 2.5 * x * x + 1.0
                 : -0.5 * x * x * x + 2.5 * x * x - 4.0 * x + 2.0;
}

// Values (outer, n, inner) -> (outer, n * factor, inner).
std::vector<float> along(const std::vector<float>& source, int64_t outer, int64_t n, int64_t inner,
                         int64_t factor) {
  std::vector<float> out(source.size() * static_cast<size_t>(factor), 0.0f);
  for (int64_t phase = 0; phase < factor; ++phase) {
    const double centre = (static_cast<double>(phase) + 0.5) / static_cast<double>(factor) - 0.5;
    std::vector<float> total(static_cast<size_t>(n), 0.0f);
    for (int64_t tap = -kReach; tap <= kReach; ++tap) {
      const auto weight = static_cast<float>(cubic(static_cast<double>(tap) - centre));
      for (int64_t here = std::max<int64_t>(-tap, 0); here < n - std::max<int64_t>(tap, 0);
           ++here) {
        total[static_cast<size_t>(here)] += weight;
        for (int64_t o = 0; o < outer; ++o) {
          const float* from = source.data() + (o * n + here + tap) * inner;
          float* to = out.data() + ((o * n + here) * factor + phase) * inner;
          for (int64_t i = 0; i < inner; ++i) to[i] += weight * from[i];
        }
      }
    }
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t here = 0; here < n; ++here) {
        float* to = out.data() + ((o * n + here) * factor + phase) * inner;
        for (int64_t i = 0; i < inner; ++i) to[i] /= total[static_cast<size_t>(here)];
      }
  }
  return out;
}

}  // namespace

std::vector<float> upsample(const std::vector<float>& images, int64_t planes, int64_t height,
                            int64_t width, int64_t factor) {
  if (factor == 1) return images;
  const std::vector<float> taller = along(images, planes, height, width, factor);
  return along(taller, planes * height * factor, width, 1, factor);
}

std::vector<float> coarse_noise(const std::vector<float>& noise, int64_t planes, int64_t height,
                                int64_t width, int64_t factor) {
  const int64_t h = height / factor, w = width / factor;
  std::vector<float> out(static_cast<size_t>(planes * h * w), 0.0f);
  for (int64_t line = 0; line < factor; ++line)
    for (int64_t column = 0; column < factor; ++column)
      for (int64_t i = 0; i < planes * h; ++i) {
        const int64_t plane = i / h, y = i % h * factor + line;
        const float* from = noise.data() + (plane * height + y) * width + column;
        for (int64_t x = 0; x < w; ++x) out[static_cast<size_t>(i * w + x)] += from[x * factor];
      }
  for (float& value : out) value /= static_cast<float>(factor);
  return out;
}

}  // namespace flagdit
