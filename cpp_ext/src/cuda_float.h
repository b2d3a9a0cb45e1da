// Values of any dtype as floats in a kernel, and back.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace flagdit {

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

__device__ inline void from_float(float x, float* to) { *to = x; }
__device__ inline void from_float(float x, __half* to) { *to = __float2half_rn(x); }
__device__ inline void from_float(float x, __nv_bfloat16* to) { *to = __float2bfloat16_rn(x); }

}  // namespace flagdit
