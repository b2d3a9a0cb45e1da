// What a run takes besides its buffers, from the same arena.
#pragma once

#include <optional>

#include "calls.h"
#include "forecasts.h"
#include "kept.h"
#include "tables.h"

namespace flagdit {

struct Parts {
  Parts(Session& denoise, const Extent& extent, const Plan& plan, const Conditions& conditions,
        const Buffers& buffers, Arena& arena)
      : tables(plan, arena),
        log(plan, buffers, arena),
        calls(denoise, conditions, buffers, plan, arena),
        forecasts(plan, buffers, Kept::by_token(denoise, plan), arena),
        guidance(arena.make(DType::f32, {extent.layout.patch_values()})),
        broken(arena.make(DType::i32, {1})) {
    if (Kept::by_token(denoise, plan)) kept.emplace(plan, buffers);
    if (Decision::of(plan)) decision.emplace(plan, extent, arena);
    if (plan.skips_layers()) skipping = arena.make(DType::f32, {extent.layout.patch_values()});
  }

  // Once, when the arena has memory.
  void prepare() {
    log.prepare();
    calls.prepare();
    forecasts.prepare();
  }

  Tables tables;
  AgeLog log;
  Calls calls;
  Forecasts forecasts;
  std::optional<Kept> kept;          // in place of what `forecasts` does
  Tensor guidance, broken;           // (P,) f32; (1,) i32, see count_broken
  std::optional<Decision> decision;  // of a plan that decides as it runs
  std::optional<Tensor> skipping;    // (P,) f32: scale of the branch that skips layers
};

}  // namespace flagdit
