// Entries of a table that a counter in the backend's memory chooses.
#pragma once

#include <cstdint>

#include "flagdit/tick.h"
#include "host_device.h"

namespace flagdit {

struct Entry {
  const int32_t* counter = nullptr;  // null: the first
  int64_t entries = 1;               // of the table
};

// Within the table: a kernel cannot refuse.
FLAGDIT_HOST_DEVICE inline int64_t current(const Entry& entry) {
  if (entry.counter == nullptr || *entry.counter < 0) return 0;
  return *entry.counter < entry.entries ? *entry.counter : entry.entries - 1;
}

// The largest number stays: it is beyond every table.
FLAGDIT_HOST_DEVICE inline void step_on(int32_t* counter) {
  if (*counter < INT32_MAX) ++*counter;
}

void tick_cuda(int32_t* entry, Stream stream);

}  // namespace flagdit
