// Active slots in whole multiples: see head_multiple in model.h.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace flagdit {

// Never more than there are tokens.
FLAGDIT_HOST_DEVICE inline int64_t rounded_head(int64_t active, int64_t tokens, int64_t multiple) {
  const int64_t rounded = (active + multiple - 1) / multiple * multiple;
  return rounded < tokens ? rounded : tokens;
}

}  // namespace flagdit
