// bfloat16 as its bits: the upper half of an f32.
#pragma once

#include <cstdint>
#include <cstring>

namespace flagdit {

inline float from_bf16(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

// Rounds to the nearest, ties to even.
inline uint16_t to_bf16(float value) {
  uint32_t wide;
  std::memcpy(&wide, &value, sizeof wide);
  const uint32_t rounded = (wide + 0x7fffu + (wide >> 16 & 1u)) >> 16, quiet = wide >> 16 | 0x40u;
  return static_cast<uint16_t>((wide & 0x7fffffffu) > 0x7f800000u ? quiet
                                                                  : rounded);  // a NaN stays one
}

}  // namespace flagdit
