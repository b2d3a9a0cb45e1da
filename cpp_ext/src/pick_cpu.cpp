#include <cstddef>
#include <cstring>

#include "pick_kernel.h"

namespace flagdit {

void pick_cpu(const PickKernel& k) {
  const int64_t entry = current(k.entry);
  for (int64_t n = 0; n < k.count; ++n) {
    const PickTable& table = k.tables[n];
    if (table.bytes == 0) continue;
    const PickWay way = way_of(table, entry);
    std::memcpy(way.to, way.from, static_cast<size_t>(table.bytes));
  }
}

}  // namespace flagdit
