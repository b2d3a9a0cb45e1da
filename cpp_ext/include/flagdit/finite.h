// Whether what a run computes are numbers still, counted where they lie.
#pragma once

#include "flagdit/tensor.h"

namespace flagdit {

// count (1,) i32 += values that are infinite or NaN, up to what an int32 holds. values: f32, f16 or
// bf16 of any shape.
void count_broken(const Tensor& values, const Tensor& count, Stream stream);

}  // namespace flagdit
