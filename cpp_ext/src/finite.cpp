#include "flagdit/finite.h"

#include "check.h"
#include "finite_kernel.h"

namespace flagdit {
namespace {

uint32_t exponent_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 0x7f800000u;
    case DType::f16:
      return 0x7c00u;
    case DType::bf16:
      return 0x7f80u;
    default:
      return 0;
  }
}

}  // namespace

void count_broken(const Tensor& values, const Tensor& count, Stream stream) {
  const uint32_t exponent = exponent_of(values.dtype);
  if (exponent == 0)
    refuse("count_broken: values", describe(values), "float32, float16 or bfloat16");
  check_tensor("count_broken: count", count, DType::i32, {1}, values.device);
  const int64_t bytes = size_of(values.dtype);
  const FiniteKernel kernel{values.data, bytes_of(values.dtype, values.shape) / bytes,
                            static_cast<int32_t>(bytes), exponent, count.as<int32_t>()};
  if (values.device == Device::cpu) {
    finite_cpu(kernel);
  } else {
    finite_cuda(kernel, stream);
  }
}

}  // namespace flagdit
