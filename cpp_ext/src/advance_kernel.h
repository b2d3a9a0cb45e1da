// What `advance` hands to a backend: raw pointers, sizes, checked.
#pragma once

#include <cstdint>

#include "flagdit/advance.h"

namespace flagdit {

struct AdvanceKernel {
  const void* output;     // (A, R, P)
  const float* guidance;  // (P,)
  float* velocity;        // (N, B, P)
  float* latent;          // (N, B, P)
  void* tokens;           // (N, R, P)
  float* score;           // (N, B)
  int32_t* age;           // (N, B)
  int32_t* drops;         // (N, B)
  float dt;
  int64_t slots, active, pinned, samples, branches, values, channels;
  bool deviation;  // the score: deviation, else magnitude
};

void advance_cpu(const AdvanceKernel& kernel);
void advance_cuda(const AdvanceKernel& kernel, DType dtype, Stream stream);

}  // namespace flagdit
