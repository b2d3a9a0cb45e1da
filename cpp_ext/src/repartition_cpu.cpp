#include <algorithm>
#include <cstring>
#include <string>

#include "check.h"
#include "repartition_kernel.h"

namespace flagdit {
namespace {

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

// The rows of a slot come from anywhere in caches larger than the processor's: asked for one swap
// ahead, their lines arrive together instead of one after another.
void prefetch(const SlotBuffer& buffer, int64_t slot, int64_t sample, int64_t samples) {
#if defined(__GNUC__)
  constexpr int64_t kLine = 64;
  for (int64_t row = sample; row < buffer.rows; row += samples) {
    const std::byte* start = buffer.data + (slot * buffer.rows + row) * buffer.row_bytes;
    for (int64_t i = 0; i < buffer.row_bytes; i += kLine) __builtin_prefetch(start + i);
  }
#endif
}

void move_rows(const SlotBuffer& buffer, int64_t i, int64_t j, int64_t sample, int64_t samples) {
  if (buffer.row_bytes == 0) return;
  for (int64_t row = sample; row < buffer.rows; row += samples) {
    std::byte* head = buffer.data + (i * buffer.rows + row) * buffer.row_bytes;
    std::byte* tail = buffer.data + (j * buffer.rows + row) * buffer.row_bytes;
    if (buffer.recomputed) {
      std::memcpy(tail, head, static_cast<size_t>(buffer.row_bytes));
    } else {
      exchange(head, tail, buffer.row_bytes);
    }
  }
}

}  // namespace

void check_swaps(const std::string& op, const int32_t* swaps, const int32_t* counts, int64_t slots,
                 int64_t samples) {
  for (int64_t sample = 0; sample < samples; ++sample, swaps += slots * 2) {
    const std::string of = " of sample " + std::to_string(sample);
    check_range(op + ": counts" + of, counts[sample], 0, slots);
    for (int64_t i = 0; i < int64_t{2} * counts[sample]; ++i) {
      if (swaps[i] < 0 || swaps[i] >= slots) {
        check_range(op + ": slot" + of, swaps[i], 0, slots - 1);
      }
    }
  }
}

void repartition_cpu(const RepartitionKernel& k) {
  check_swaps("swap", k.swaps, k.counts, k.slots, k.samples);
  for (int64_t n = 0; n < k.count; ++n) {
    const SlotBuffer& buffer = k.buffers[n];
    for (int64_t sample = 0; sample < k.samples; ++sample) {
      const int32_t* swaps = k.swaps + sample * k.slots * 2;
      const int64_t count = k.counts[sample];
      for (int64_t s = 0; s < count; ++s) {
        if (s + 1 < count) {
          prefetch(buffer, swaps[2 * s + 2], sample, k.samples);
          prefetch(buffer, swaps[2 * s + 3], sample, k.samples);
        }
        const int64_t i = swaps[2 * s], j = swaps[2 * s + 1];
        if (i != j) move_rows(buffer, i, j, sample, k.samples);
      }
    }
  }
}

}  // namespace flagdit
