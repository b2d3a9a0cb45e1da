// Where a run comes from, as its report says it.
#pragma once

#include <cstdint>
#include <string>

#include "flagdit/model.h"

namespace flagdit {

struct Origin {
  std::string model, digest, bundle, backend, precision, space;
  Model numbers;
  int64_t value_bytes = 4;  // of a cached value
};

}  // namespace flagdit
