// Active slots in whole multiples: see head_multiple in model.h.
#pragma once

#include <cstdint>
#include <numeric>

#include "host_device.h"

namespace flagdit {

// Slots of so many bytes each that end at a multiple of 256 bytes, which TensorRT asks of an address,
// are a multiple of this.
inline int64_t aligned_multiple(int64_t slot_bytes) {
  constexpr int64_t kAligned = 256;
  return kAligned / std::gcd(kAligned, slot_bytes);
}

// Never more than there are tokens.
FLAGDIT_HOST_DEVICE inline int64_t rounded_head(int64_t active, int64_t tokens, int64_t multiple) {
  const int64_t rounded = (active + multiple - 1) / multiple * multiple;
  return rounded < tokens ? rounded : tokens;
}

}  // namespace flagdit
