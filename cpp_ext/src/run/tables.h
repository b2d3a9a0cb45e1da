// What differs from one evaluation of a plan to the next, where operators and captured graphs read
// it (tick.h); and what a plan decides as it runs.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "flagdit/arena.h"
#include "flagdit/buffers.h"
#include "flagdit/make_plan.h"
#include "flagdit/pick.h"

namespace flagdit {

struct Tables {
  // Takes them from the arena.
  Tables(const Plan& plan, Arena& arena);

  // Writes the plan's numbers, with the first evaluation to come.
  void fill(const Plan& plan, Stream stream) const;

  Tensor numbers;  // (E, 5) f32, see StepTable
  Tensor future;   // (E, max_age + 1) i32, see SelectArgs
  Tensor entry;    // (1,) i32
};

// How old the velocity of every token is after each step, kept where it is computed: a GPU need not
// be asked in between.
class AgeLog {
 public:
  // Takes an entry an evaluation from the arena.
  AgeLog(const Plan& plan, const Buffers& buffers, Arena& arena);
  // Once, when the arena has memory.
  void prepare();
  // After an evaluation, before the next is ticked to.
  void keep(const Tensor& entry, Stream stream) const;
  // (steps, B, F, H, W) in patches, of the first steps of the plan.
  void read(const Plan& plan, size_t steps, int16_t* out, Stream stream) const;

 private:
  const Buffers& buffers_;
  Tensor log_;  // (E, 2, N, B) i32: the age of each slot, and its token
  std::optional<Picks> kept_;
};

// How much a step computes, by the errors that its cached patches are going to have (decide.h).
class Decision {
 public:
  // Whether a plan decides as it runs.
  static bool of(const Plan& plan);
  // Takes its scratch from the arena.
  Decision(const Plan& plan, const Extent& extent, Arena& arena);

  // The step as planned; or with more tokens, to stay within the error budget; or with none, if the
  // gate says so. Waits for the stream: the host has to know.
  Step decide(const Plan& plan, const Step& step, const Buffers& state, const Tables& tables,
              Stream stream);

 private:
  Tensor scratch_, active_;
  std::shared_ptr<std::byte> read_;  // four bytes of the host
};

}  // namespace flagdit
