#include <algorithm>
#include <cstring>
#include <string>

#include "check.h"
#include "forecast_kernel.h"
#include "forecast_loops.h"
#include "repartition_kernel.h"

namespace flagdit {
namespace {

constexpr int64_t kBlock = 512;  // values of a row that are worked on at a time

// Part of a row of one slot.
template <typename T>
struct Part {
  T *values, *anchor;
  uint16_t* slope;
  float gain, ahead;  // of the token that is there before the pass
  int64_t slot;
};

// What goes with a token: its last values, and how they change.
template <typename T>
struct Load {
  T latest[kBlock];
  uint16_t slope[kBlock];
  float ahead;
};

template <typename T>
class Rows {
 public:
  Rows(const ForecastKernel& k, const ForecastCache& cache)
      : k_(k), cache_(cache), loops_(forecast_loops<T>()) {}

  void all() const {
    const ForecastLayout& layout = k_.layout;
    for (int64_t slot = 0; slot < layout.slots; ++slot) {
      for (int64_t row = 0; row < layout.rows; ++row) {
        const int64_t to = k_.partner[slot * layout.samples + row % layout.samples];
        if (to < slot) continue;  // done with its partner
        for (int64_t c = 0; c < layout.width; c += kBlock) {
          const int64_t n = std::min(kBlock, layout.width - c);
          if (to == slot) {
            stay(part(slot, row, c), n);
          } else {
            exchange(part(slot, row, c), part(to, row, c), n);
          }
        }
      }
    }
  }

 private:
  Part<T> part(int64_t slot, int64_t row, int64_t c) const {
    const int64_t at = (slot * k_.layout.rows + row) * k_.layout.width + c;
    const int64_t token = slot * k_.layout.samples + row % k_.layout.samples;
    return {static_cast<T*>(cache_.values) + at,
            static_cast<T*>(cache_.anchor) + at,
            cache_.slope + at,
            k_.gain[token],
            k_.ahead[token],
            slot};
  }

  void stay(const Part<T>& p, int64_t n) const {
    const Stay what = stay_at(k_.step, p.slot);
    if (what == Stay::nothing) return;
    if (what == Stay::drift) {
      loops_.move(p.anchor, p.slope, p.ahead, n, p.values);
      return;
    }
    if (what == Stay::learn) loops_.slopes(p.values, p.anchor, p.gain, n, p.slope);
    std::memcpy(p.anchor, p.values, n * sizeof(T));
    if (what == Stay::learn && k_.step.tail) loops_.move(p.anchor, p.slope, p.ahead, n, p.values);
  }

  void exchange(const Part<T>& a, const Part<T>& b, int64_t n) const {
    Load<T> from_a, from_b;
    take(a, n, from_a);
    take(b, n, from_b);
    put(from_a, n, b);
    put(from_b, n, a);
  }

  void take(const Part<T>& p, int64_t n, Load<T>& load) const {
    load.ahead = p.ahead;
    if (p.slot < k_.step.fresh) {
      std::memcpy(load.latest, p.values, n * sizeof(T));
      loops_.slopes(p.values, p.anchor, p.gain, n, load.slope);
    } else {
      std::memcpy(load.latest, p.anchor, n * sizeof(T));
      std::memcpy(load.slope, p.slope, n * sizeof(uint16_t));
    }
  }

  void put(const Load<T>& load, int64_t n, const Part<T>& p) const {
    std::memcpy(p.anchor, load.latest, n * sizeof(T));
    if (p.slot < k_.step.active) return;
    std::memcpy(p.slope, load.slope, n * sizeof(uint16_t));
    if (k_.step.tail) loops_.move(load.latest, load.slope, load.ahead, n, p.values);
  }

  const ForecastKernel& k_;
  const ForecastCache& cache_;
  ForecastLoops<T> loops_;
};

// Before anything moves. A slot in two pairs would make a map of partners that is none.
void check_pairs(const ForecastKernel& k) {
  check_swaps("move", k.swaps, k.counts, k.layout.slots, k.layout.samples);
  std::fill_n(k.partner, k.layout.slots * k.layout.samples, 0);
  for (int64_t sample = 0; sample < k.layout.samples; ++sample) {
    const int32_t* swaps = k.swaps + sample * k.layout.slots * 2;
    for (int64_t i = 0; i < int64_t{2} * k.counts[sample]; ++i) {
      if (k.partner[swaps[i] * k.layout.samples + sample]++ != 0) {
        refuse("move: slot " + std::to_string(swaps[i]) + " of sample " + std::to_string(sample),
               "two swaps", "one at most");
      }
    }
  }
}

template <typename T>
void move_rows(const ForecastKernel& k) {
  for (int64_t n = 0; n < k.count; ++n) Rows<T>(k, k.caches[n]).all();
}

}  // namespace

void forecast_cpu(const ForecastKernel& k) {
  if (k.swaps != nullptr) check_pairs(k);
  for (int64_t at = 0; at < k.layout.slots * k.layout.samples; ++at) mark_token(k, at);
  for (int64_t sample = 0; k.swaps != nullptr && sample < k.layout.samples; ++sample) {
    const int32_t* swaps = k.swaps + sample * k.layout.slots * 2;
    for (int64_t s = 0; s < k.counts[sample]; ++s)
      pair_tokens(k, sample, swaps[2 * s], swaps[2 * s + 1]);
  }
  if (k.layout.dtype == DType::f32) {
    move_rows<float>(k);
  } else {
    move_rows<uint16_t>(k);
  }
}

}  // namespace flagdit
