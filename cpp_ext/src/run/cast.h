// fp32 values as an input of an engine holds them.
#pragma once

#include "flagdit/conditions.h"

namespace flagdit {

// The same values as float32, float16 or bfloat16, rounded to the nearest, ties to even. Throws
// Error(bundle) for any other type.
Bound cast(const Bound& values, DType dtype);

}  // namespace flagdit
