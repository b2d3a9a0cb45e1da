// Keys and values of one run by token, for a session that finds its tails (tails.h): what Forecasts
// makes of them in passes of its own, said as numbers for each token.
#pragma once

#include <vector>

#include "flagdit/buffers.h"
#include "flagdit/tails.h"
#include "work.h"

namespace flagdit {

class Kept {
 public:
  // Whether there is anything to keep, and the session finds it.
  static bool by_token(const Session& denoise, const Plan& plan);

  // Its rows are what Forecasts would have as anchors and slopes, and `anchored` is by token.
  Kept(const Plan& plan, const Buffers& buffers) : plan_(plan), buffers_(buffers) {}

  // Before each run in the same memory.
  void begin();
  // Before an evaluation of a step.
  void aim(const Work& work, size_t evaluation);

  // Of each call, as it was aimed.
  const std::vector<Tails>& tails() const { return tails_; }

 private:
  // What is known of the tokens of a call, and the same by slot: (N, B).
  struct Known {
    std::vector<int32_t> last, last_by_slot;
    std::vector<float> gain, gain_by_slot, ahead;
  };

  bool keeps(size_t call, int64_t step) const;
  void write_head(size_t call, const Work& work);
  void read_tail(size_t call, const Work& work, size_t evaluation);

  const Plan& plan_;
  const Buffers& buffers_;
  std::vector<Known> known_;
  std::vector<Tails> tails_;
};

}  // namespace flagdit
