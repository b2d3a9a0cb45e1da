#include <algorithm>
#include <string>

#include "check.h"
#include "repartition_kernel.h"

namespace flagdit {
namespace {

// Before anything moves: half a repartition would leave tokens in two places.
void check_swaps(const RepartitionKernel& k) {
  for (int64_t sample = 0; sample < k.samples; ++sample) {
    const std::string of = " of sample " + std::to_string(sample);
    check_range("swap: counts" + of, k.counts[sample], 0, k.slots);
    const int32_t* swaps = k.swaps + sample * k.slots * 2;
    for (int64_t i = 0; i < 2 * k.counts[sample]; ++i) {
      if (swaps[i] < 0 || swaps[i] >= k.slots) {
        check_range("swap: slot" + of, swaps[i], 0, k.slots - 1);
      }
    }
  }
}

void exchange(const SlotBuffer& buffer, int64_t row, int32_t i, int32_t j) {
  std::byte* a = buffer.data + (i * buffer.rows + row) * buffer.row_bytes;
  std::byte* b = buffer.data + (j * buffer.rows + row) * buffer.row_bytes;
  if (a != b) std::swap_ranges(a, a + buffer.row_bytes, b);
}

}  // namespace

void repartition_cpu(const RepartitionKernel& k) {
  check_swaps(k);
  for (int64_t n = 0; n < k.count; ++n) {
    const SlotBuffer& buffer = k.buffers[n];
    for (int64_t row = 0; row < buffer.rows; ++row) {
      const int64_t sample = row % k.samples;
      const int32_t* swaps = k.swaps + sample * k.slots * 2;
      for (int64_t s = 0; s < k.counts[sample]; ++s) {
        exchange(buffer, row, swaps[2 * s], swaps[2 * s + 1]);
      }
    }
  }
}

}  // namespace flagdit
