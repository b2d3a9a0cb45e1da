#include "guide_kernel.h"

namespace flagdit {

void guide_cpu(const GuideKernel& k) {
  const auto* conditional = static_cast<const float*>(k.conditional);
  auto* guided = static_cast<float*>(k.guided);
  if (const auto* other = static_cast<const float*>(k.unconditional))
    for (int64_t i = 0; i < k.count; ++i) k.difference[i] = conditional[i] - other[i];
  for (int64_t at = 0; at < k.count; at += k.values) {
    for (int64_t p = 0; p < k.values; ++p) {
      const float more = k.difference[at + p] * (k.guidance[p] - 1.0f);
      guided[at + p] = more + conditional[at + p];
    }
  }
  const auto* skipping = static_cast<const float*>(k.skipping);
  for (int64_t at = 0; skipping != nullptr && at < k.count; at += k.values) {
    for (int64_t p = 0; p < k.values; ++p) {
      const float away = (conditional[at + p] - skipping[at + p]) * k.skip[p];
      guided[at + p] = guided[at + p] + away;
    }
  }
}

}  // namespace flagdit
