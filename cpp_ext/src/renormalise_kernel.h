// What `renormalise` hands to a backend: raw pointers, sizes, checked.
#pragma once

#include <cmath>
#include <cstdint>

#include "flagdit/renormalise.h"
#include "host_device.h"

namespace flagdit {

struct RenormaliseKernel {
  void* output;           // (A, R, P)
  void* guided;           // (A, B, P) or null
  const float* guidance;  // (P,)
  const int32_t* token;   // (N, B)
  float* norms;           // (N, B, K, 2)
  float* factors;         // (B, L, K)
  int64_t slots, active, pinned, samples, branches, values;
  NormGroups groups;
};

FLAGDIT_HOST_DEVICE inline int64_t line_of(const RenormaliseKernel& k, int64_t token) {
  const int64_t line = token < 0 ? 0 : token / k.groups.stride;
  return line < k.groups.lines ? line : k.groups.lines - 1;
}

FLAGDIT_HOST_DEVICE inline float factor_of(const RenormaliseKernel& k, double conditional,
                                           double guided) {
  if (!(guided > 0.0)) return 1.0f;
  const auto factor = static_cast<float>(std::sqrt(conditional / guided));
  return k.groups.at_most && factor > 1.0f ? 1.0f : factor;
}

void renormalise_cpu(const RenormaliseKernel& kernel);
void renormalise_cuda(const RenormaliseKernel& kernel, DType dtype, Stream stream);

}  // namespace flagdit
