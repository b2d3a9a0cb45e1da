// Rows of a table that a counter in the backend's memory chooses.
#pragma once

#include <cstdint>

#include "flagdit/tick.h"
#include "host_device.h"

namespace flagdit {

struct Row {
  const int32_t* counter = nullptr;  // null: the first
  int64_t rows = 1;                  // of the table
};

// Within the table: a kernel cannot refuse.
FLAGDIT_HOST_DEVICE inline int64_t current(const Row& row) {
  if (row.counter == nullptr || *row.counter < 0) return 0;
  return *row.counter < row.rows ? *row.counter : row.rows - 1;
}

// The largest number stays: it is beyond every table.
FLAGDIT_HOST_DEVICE inline void step_on(int32_t* counter) {
  if (*counter < INT32_MAX) ++*counter;
}

void tick_cuda(int32_t* row, Stream stream);

}  // namespace flagdit
