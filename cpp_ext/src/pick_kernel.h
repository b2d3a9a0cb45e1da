// What `Picks` hands to a backend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "flagdit/pick.h"
#include "host_device.h"
#include "tick_kernel.h"

namespace flagdit {

struct PickKernel {
  const PickTable* tables;  // in device memory on CUDA
  int64_t count;            // of tables
  Entry entry;
};

// Where a table's bytes come from, and go to.
struct PickWay {
  const std::byte* from;
  std::byte* to;
};

FLAGDIT_HOST_DEVICE inline PickWay way_of(const PickTable& table, int64_t entry) {
  auto* const place =
      static_cast<std::byte*>(table.table) + entry * table.entry_bytes + table.first_byte;
  auto* const out = static_cast<std::byte*>(table.out);
  return table.kept ? PickWay{out, place} : PickWay{place, out};
}

void pick_cpu(const PickKernel& kernel);
void pick_cuda(const PickKernel& kernel, int64_t most_bytes, Stream stream);

}  // namespace flagdit
