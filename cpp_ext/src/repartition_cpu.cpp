#include <algorithm>
#include <cstring>
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

// By blocks: two ranges that a compiler must take to overlap are swapped byte by byte.
void exchange(std::byte* a, std::byte* b, int64_t bytes) {
  constexpr int64_t kBlock = 256;
  std::byte held[kBlock];
  for (; bytes >= kBlock; bytes -= kBlock, a += kBlock, b += kBlock) {
    std::memcpy(held, a, kBlock);
    std::memcpy(a, b, kBlock);
    std::memcpy(b, held, kBlock);
  }
  std::swap_ranges(a, a + bytes, b);
}

}  // namespace

void repartition_cpu(const RepartitionKernel& k) {
  check_swaps(k);
  for (int64_t n = 0; n < k.count; ++n) {
    const SlotBuffer& buffer = k.buffers[n];
    for (int64_t sample = 0; sample < k.samples; ++sample) {
      const int32_t* swaps = k.swaps + sample * k.slots * 2;
      for (int64_t s = 0; s < k.counts[sample]; ++s) {
        const int64_t i = swaps[2 * s], j = swaps[2 * s + 1];
        if (i == j) continue;
        for (int64_t row = sample; row < buffer.rows; row += k.samples) {
          std::byte* head = buffer.data + (i * buffer.rows + row) * buffer.row_bytes;
          std::byte* tail = buffer.data + (j * buffer.rows + row) * buffer.row_bytes;
          if (buffer.recomputed) {
            std::memcpy(tail, head, static_cast<size_t>(buffer.row_bytes));
          } else {
            exchange(head, tail, buffer.row_bytes);
          }
        }
      }
    }
  }
}

}  // namespace flagdit
