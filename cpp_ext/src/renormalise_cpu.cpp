#include <vector>

#include "renormalise_kernel.h"

namespace flagdit {
namespace {

// The rows of a slot and sample in the head.
struct Rows {
  Rows(const RenormaliseKernel& k, int64_t slot, int64_t sample)
      : conditional(static_cast<float*>(k.output) +
                    (slot * k.branches * k.samples + sample) * k.values),
        other(k.guided == nullptr
                  ? conditional + k.samples * k.values
                  : static_cast<float*>(k.guided) + (slot * k.samples + sample) * k.values),
        apart(k.guided != nullptr) {}

  float guided(const RenormaliseKernel& k, int64_t p) const {
    if (apart) return other[p];
    return conditional[p] + (k.guidance[p] - 1.0f) * (conditional[p] - other[p]);
  }

  float *conditional, *other;  // the other is the unconditional one, or where apart the guided one
  bool apart;
};

void square(const RenormaliseKernel& k, int64_t slot, int64_t sample) {
  const Rows rows(k, slot, sample);
  const int64_t count = k.values / k.groups.groups;
  float* norms = k.norms + (slot * k.samples + sample) * k.groups.groups * 2;
  for (int64_t group = 0; group < k.groups.groups; ++group) {
    float conditional = 0.0f, guided = 0.0f;
    for (int64_t p = group * count; p < (group + 1) * count; ++p) {
      const float c = rows.conditional[p], g = rows.guided(k, p);
      conditional += c * c;
      guided += g * g;
    }
    norms[2 * group] = conditional;
    norms[2 * group + 1] = guided;
  }
}

void sum_up(const RenormaliseKernel& k, int64_t sample) {
  const int64_t groups = k.groups.groups;
  std::vector<double> sums(static_cast<size_t>(k.groups.lines * groups * 2), 0.0);
  for (int64_t slot = k.pinned; slot < k.slots; ++slot) {
    const int64_t at = slot * k.samples + sample;
    double* of = sums.data() + line_of(k, k.token[at]) * groups * 2;
    for (int64_t i = 0; i < 2 * groups; ++i) of[i] += k.norms[at * groups * 2 + i];
  }
  float* factors = k.factors + sample * k.groups.lines * groups;
  for (size_t i = 0; i < sums.size() / 2; ++i)
    factors[i] = factor_of(k, sums[2 * i], sums[2 * i + 1]);
}

void scale(const RenormaliseKernel& k, int64_t slot, int64_t sample) {
  const Rows rows(k, slot, sample);
  const int64_t groups = k.groups.groups, count = k.values / groups;
  const int64_t line = line_of(k, k.token[slot * k.samples + sample]);
  const float* factors = k.factors + (sample * k.groups.lines + line) * groups;
  for (int64_t p = 0; p < k.values; ++p) {
    const float scaled = factors[p / count] * rows.guided(k, p);
    rows.other[p] = scaled;
    if (!rows.apart) rows.conditional[p] = scaled;
  }
}

}  // namespace

void renormalise_cpu(const RenormaliseKernel& k) {
  for (int64_t slot = k.pinned; slot < k.active; ++slot)
    for (int64_t sample = 0; sample < k.samples; ++sample) square(k, slot, sample);
  for (int64_t sample = 0; sample < k.samples; ++sample) sum_up(k, sample);
  for (int64_t slot = k.pinned; slot < k.active; ++slot)
    for (int64_t sample = 0; sample < k.samples; ++sample) scale(k, slot, sample);
}

}  // namespace flagdit
