// Calls of `denoise` in one run: what they read and write, bound where it lies.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "flagdit/buffers.h"
#include "flagdit/pick.h"
#include "flagdit/sampler.h"
#include "flagdit/session.h"

namespace flagdit {

class Calls {
 public:
  // Takes from the arena what conditions need where the session runs: on a CPU they are read where
  // they are, but for those that another phase changes. What is given stays.
  Calls(Session& session, const Conditions& conditions, const Buffers& buffers, const Plan& plan,
        Arena& arena);

  // Once, when the arena has memory.
  void prepare();
  // Writes the conditions to their places, before the first call.
  void fill(Stream stream);
  // Writes those of another phase over them; others among `anew` are left to Buffers.
  void place_anew(const std::vector<Bound>& anew, Stream stream);

  // All calls of an evaluation with so many active slots, each with the conditions of the
  // evaluation in `entry`. Returns the seconds of the host in the session.
  // tails: of each call, for a session that finds them; null for others.
  double run(int64_t active, size_t calls, const Tensor& entry, const std::vector<Tails>* tails,
             Stream stream);
  // Whether those calls can be captured in a graph now.
  bool settled(int64_t active, size_t calls) const;

 private:
  Binding& bound(int64_t active, size_t call);

  Session& session_;
  const Conditions& given_;
  const Buffers& buffers_;
  const Plan& plan_;
  Arena& arena_;
  std::vector<Bound> timed_;                  // where the session runs
  std::vector<std::vector<Bound>> constant_;  // there, of each call: its rows
  std::vector<std::vector<Bound>> current_;   // of each call: (rows, ...) of its evaluation
  std::vector<Picks> picks_;                  // of each call
  std::map<std::pair<int64_t, size_t>, std::unique_ptr<Binding>> bindings_;  // by active and call
};

}  // namespace flagdit
