// Lets high scores reach over to neighbouring patches, so that the border of what moves is computed
// with it: score = max(score, share * the largest score among the eight neighbours).
#pragma once

#include <cstdint>

#include "flagdit/tensor.h"

namespace flagdit {

struct DilateArgs {
  Tensor score;  // (N, B) f32 in, out
  Tensor token;  // (N, B) i32: a patch's place in the picture, line by line, distinct in a sample;
                 // one outside 0..N-1 is refused on CPU, and skipped on CUDA
  Tensor grid;   // (B, N) f32 scratch
  int64_t line;  // tokens in a line of the picture; N is a multiple of it
  int64_t pinned;  // slots 0 .. pinned-1 are no patches: they neither have a score nor lend one
  float share;     // 0 to 1
};

void dilate(const DilateArgs& args, Stream stream);

}  // namespace flagdit
