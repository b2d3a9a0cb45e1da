// What `count_broken` hands to a backend. A value is no number if all bits of its exponent are set.
#pragma once

#include <cstdint>

#include "flagdit/finite.h"
#include "host_device.h"

namespace flagdit {

struct FiniteKernel {
  const void* values;
  int64_t count;
  int32_t bytes;      // of a value
  uint32_t exponent;  // its bits
  int32_t* broken;
};

// What two counts make, as far as an int32 goes.
FLAGDIT_HOST_DEVICE inline int32_t counted_up(int32_t before, int64_t more) {
  return more < INT32_MAX - before ? static_cast<int32_t>(before + more) : INT32_MAX;
}

void finite_cpu(const FiniteKernel& kernel);
void finite_cuda(const FiniteKernel& kernel, Stream stream);

}  // namespace flagdit
