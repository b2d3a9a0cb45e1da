// Guidance where branches are apart, in arrays of their own: the difference that the unconditional
// branch makes is kept by slot, so that steps which do not run it guide by the last one. A branch that
// skips layers is led away from besides (skip_layers.h).
#pragma once

#include <optional>

#include "flagdit/tensor.h"

namespace flagdit {

struct GuideArgs {
  Tensor conditional;                     // (A, B, P) f32, on CUDA also f16, bf16
  std::optional<Tensor> unconditional;    // (A, B, P) of the same dtype, in a step that runs it
  Tensor guidance;                        // (P,) f32 scale per value
  Tensor difference;                      // (N, B, P) f32 in, out: conditional - unconditional; the
                                          // head is written if there is an unconditional output
  Tensor guided;                          // (N, B, P) of the dtype of the outputs; head out
  std::optional<Tensor> skipping{};       // (A, B, P) of the same dtype, in a step that runs it
  std::optional<Tensor> skip_guidance{};  // (P,) f32, with it
};

// guided = conditional + (guidance - 1) * difference [+ skip_guidance * (conditional - skipping)], in
// f32, every operation rounded: the same bits on every device.
void guide(const GuideArgs& args, Stream stream);

}  // namespace flagdit
