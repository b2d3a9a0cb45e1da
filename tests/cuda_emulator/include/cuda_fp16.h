// Half precision: bits, and the roundings of IEEE 754 to and from float.
#pragma once

#include <cstdint>

struct __half {
  uint16_t bits;
};

inline float __half2float(__half h) {
  _Float16 value;
  __builtin_memcpy(&value, &h, sizeof value);
  return static_cast<float>(value);
}
inline __half __float2half_rn(float x) {
  const auto value = static_cast<_Float16>(x);
  __half h;
  __builtin_memcpy(&h, &value, sizeof h);
  return h;
}
