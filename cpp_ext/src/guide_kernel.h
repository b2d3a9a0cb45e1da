// What `guide` hands to a backend: raw pointers, sizes, checked.
#pragma once

#include <cstdint>

#include "flagdit/guide.h"

namespace flagdit {

struct GuideKernel {
  const void* conditional;    // (A, B, P)
  const void* unconditional;  // (A, B, P) or null
  const void* skipping;       // (A, B, P) or null
  const float* guidance;      // (P,)
  const float* skip;          // (P,) with skipping
  float* difference;          // (N, B, P)
  void* guided;               // (N, B, P)
  int64_t count;              // A B P
  int64_t values;             // P
};

void guide_cpu(const GuideKernel& kernel);
void guide_cuda(const GuideKernel& kernel, DType dtype, Stream stream);

}  // namespace flagdit
