// fp32 values as an input of an engine holds them.
#pragma once

#include "flagdit/conditions.h"

namespace flagdit {

// The same values as float32, float16 or bfloat16, rounded to the nearest, ties to even. Throws
// Error(bundle) for any other type.
Bound cast(const Bound& values, DType dtype);
// So many values, to memory of the host; float32 is copied.
void narrow(const float* from, int64_t count, DType dtype, void* to);

}  // namespace flagdit
