// Swaps tokens across the border between head and tail, in every buffer that is kept per slot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "flagdit/tensor.h"

namespace flagdit {

struct SlotBuffer {
  std::byte* data;  // (N, rows, row_bytes), no gaps
  int64_t rows;     // a multiple of the samples; row r belongs to sample r % samples
  int64_t row_bytes;
  // `denoise` writes the head's rows next: what leaves the head moves, what enters it need not.
  bool recomputed = false;
};

// The buffers of one run, which share their slots: token, age, drops, latent, tokens, velocity,
// positions, keys and values. Only the score may stay behind, `advance` writes all of it. Does not
// own the memory.
class SlotBuffers {
 public:
  // On CUDA this allocates and fills the kernel's table, and synchronises: construct once per run.
  SlotBuffers(std::vector<SlotBuffer> buffers, int64_t slots, int64_t samples, Device device);

  // Exchanges row r of slots i and j for every (i, j) in swaps[b, :counts[b]] and every row r of
  // sample b, in place; in a recomputed buffer, copies it from i, in the head, to j, in the tail,
  // which is half the traffic. swaps: (B, N, 2) i32, counts: (B,) i32, as from select: a slot is in
  // one swap at most, since CUDA does them all at once.
  // Slots outside 0..N-1 throw on CPU; a CUDA kernel cannot, and skips them.
  void swap(const Tensor& swaps, const Tensor& counts, Stream stream) const;

 private:
  std::vector<SlotBuffer> buffers_;
  std::shared_ptr<const void> table_;  // buffers_ in device memory; empty on CPU
  int64_t slots_;
  int64_t samples_;
  int64_t most_rows_ = 0;
  Device device_;
};

}  // namespace flagdit
