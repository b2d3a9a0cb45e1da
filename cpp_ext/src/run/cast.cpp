#include "cast.h"

#include <cmath>
#include <cstring>

#include "flagdit/bf16.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

// Bits of the nearest float16, ties to even; what is too large becomes an infinity.
uint16_t to_f16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and more
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24
    const float scaled = std::nearbyint(std::fabs(value) * 16777216.0f);
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(scaled));
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<uint16_t>(sign | static_cast<uint16_t>((rounded - 0x38000000u) >> 13));
}

}  // namespace

void narrow(const float* from, int64_t count, DType dtype, void* to) {
  if (dtype == DType::f32) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  auto* out = static_cast<uint16_t*>(to);
  for (int64_t i = 0; i < count; ++i)
    out[i] = dtype == DType::f16 ? to_f16(from[i]) : to_bf16(from[i]);
}

Bound cast(const Bound& values, DType dtype) {
  const Tensor& from = values.tensor;
  if (from.dtype == dtype) return values;
  if (from.dtype != DType::f32 || (dtype != DType::f16 && dtype != DType::bf16))
    throw Error(Fault::bundle, values.name + " is " + to_string(from.dtype) +
                                   ", and denoise takes " + to_string(dtype));
  const int64_t bytes = bytes_of(dtype, from.shape);
  const auto arena = std::make_shared<Arena>(Device::cpu, bytes + 256);
  const Bound out{values.name, arena->make(dtype, from.shape), arena};
  narrow(from.as<float>(), bytes / 2, dtype, out.tensor.data);
  return out;
}

}  // namespace flagdit
