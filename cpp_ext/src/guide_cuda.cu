#include "cuda_check.h"
#include "cuda_float.h"
#include "guide_kernel.h"

namespace flagdit {
namespace {

constexpr int kThreads = 256;

// Rounded operations: the compiler would fuse a product with a sum, and give other bits.
template <typename T>
__global__ void __launch_bounds__(kThreads) guide_values(GuideKernel k) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= k.count) return;
  const float conditional = to_float(static_cast<const T*>(k.conditional)[i]);
  float difference = 0.0f;
  if (k.unconditional != nullptr) {
    difference = __fsub_rn(conditional, to_float(static_cast<const T*>(k.unconditional)[i]));
    k.difference[i] = difference;
  } else {
    difference = k.difference[i];
  }
  const float more = __fmul_rn(difference, __fsub_rn(k.guidance[i % k.values], 1.0f));
  float guided = __fadd_rn(more, conditional);
  if (k.skipping != nullptr) {
    const float skipping = to_float(static_cast<const T*>(k.skipping)[i]);
    const float away = __fmul_rn(__fsub_rn(conditional, skipping), k.skip[i % k.values]);
    guided = __fadd_rn(guided, away);
  }
  from_float(guided, static_cast<T*>(k.guided) + i);
}

template <typename T>
void launch(const GuideKernel& kernel, Stream stream) {
  const auto blocks = static_cast<unsigned>((kernel.count + kThreads - 1) / kThreads);
  guide_values<T><<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  check_cuda(cudaGetLastError(), "guide: launch");
}

}  // namespace

void guide_cuda(const GuideKernel& kernel, DType dtype, Stream stream) {
  if (kernel.count == 0) return;
  switch (dtype) {
    case DType::f16:
      return launch<__half>(kernel, stream);
    case DType::bf16:
      return launch<__nv_bfloat16>(kernel, stream);
    default:
      return launch<float>(kernel, stream);
  }
}

}  // namespace flagdit
