// Keys and values of cached tokens, moved along a line through the last two that were computed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "flagdit/tensor.h"

namespace flagdit {

// One cache of keys or of values, all (N, R, D), no gaps. `slope` starts as zeros.
struct ForecastCache {
  void* values;     // what `denoise` reads, in the tail, and writes, in the head
  void* anchor;     // the last computed ones that `values` is made from
  uint16_t* slope;  // bfloat16: change per time between the last two
};

// What the caches of one call of `denoise` have in common.
struct ForecastLayout {
  int64_t slots, rows, samples, width;  // N; R, row r belongs to sample r % samples; B; D
  DType dtype;                          // of values and anchors: f32, bf16; on CUDA also f16
  Device device;
};

// As from select: pairs (B, N, 2) i32, counts (B,) i32; a slot is in one pair at most.
struct Swaps {
  Tensor pairs, counts;
};

// The numbers of a step in the memory of the backend (tick.h). Slots fit a float: 2^24 at most.
struct ForecastTable {
  Tensor numbers;  // (E, 4) f32: fresh, time, target, damping
  Tensor entry;    // (1,) i32: of this evaluation; one beyond the table is its nearest
};

struct ForecastStep {
  int64_t fresh;   // the first slots, whose values `denoise` wrote since the last pass
  float time;      // when those were computed
  int64_t active;  // the first slots, which `denoise` writes next
  float target;    // when it does
  float damping;   // share of the way to there
  bool tail;       // whether it does: otherwise the values of the other slots stay as they are
  std::optional<ForecastTable> table{};  // its entry replaces fresh, time, target, damping: 0
};

// The caches of one call of `denoise` in one run. Does not own their memory.
class CacheForecast {
 public:
  // anchored: (N, B) f32, when the anchors were computed; -inf before there is one.
  // On CUDA this allocates and fills the kernel's table, and synchronises: construct once per run.
  CacheForecast(std::vector<ForecastCache> caches, const Tensor& anchored, ForecastLayout layout);

  // One pass over all caches, in place. Fresh values become anchors, with the slope from the anchor
  // before (0 if there was none, or it was not earlier); the tokens of every pair change places;
  // and behind the active slots
  //
  //   values = anchor + damping * (target - anchored) * slope
  //
  // Of the active slots the anchors stay, as the values before those that `denoise` writes next,
  // and the slopes do not. Without pairs, no token moves.
  // Slots outside 0..N-1 throw on CPU, as does a slot in two pairs; CUDA skips the former.
  void move(const std::optional<Swaps>& swaps, const ForecastStep& step, Stream stream) const;

 private:
  std::vector<ForecastCache> caches_;
  Tensor anchored_;
  ForecastLayout layout_;
  std::shared_ptr<const void> table_;  // caches_ in device memory; empty on CPU
  std::shared_ptr<void> scratch_;      // (3, N, B) of 4 bytes, where the caches are
};

}  // namespace flagdit
