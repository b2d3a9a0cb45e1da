// What differs from one evaluation to the next, where a captured graph can read it (graph.h): a
// graph keeps the arguments of its kernels, and not what they point to. The plan of a run is put on
// the device once, an entry an evaluation, and a counter beside it says which it is.
#pragma once

#include "flagdit/tensor.h"

namespace flagdit {

struct StepTable {
  Tensor numbers;  // (E, 5) f32: dt, t, next, bend and arc, as in advance.h
  Tensor entry;    // (1,) i32: of this evaluation; one beyond the table is its nearest
};

// entry += 1, after everything that the evaluation reads by it.
void tick(const Tensor& entry, Stream stream);

}  // namespace flagdit
