// Checks of arrays. Every message says which argument, what it got and what is allowed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "flagdit/checked.h"
#include "flagdit/tensor.h"

namespace flagdit {

void check_rank(const std::string& what, const Tensor& tensor, int rank);

// Dtype, shape and device at once, for an argument whose every property follows from others.
void check_tensor(const std::string& what, const Tensor& tensor, DType dtype, const Shape& shape,
                  Device device);

// Memory from `first` up to `last`, which is not empty.
struct Range {
  const std::byte *first, *last;
};

// Refuses ranges that overlap.
void check_apart(const std::string& what, std::vector<Range> ranges);

std::string describe(const Tensor& tensor);

}  // namespace flagdit
