// Argument checks. Every message says which argument, what it got and what is allowed.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "flagdit/tensor.h"

namespace flagdit {

[[noreturn]] void refuse(const std::string& what, const std::string& got,
                         const std::string& allowed);

void check_range(const std::string& what, int64_t got, int64_t least, int64_t most);
void check_rank(const std::string& what, const Tensor& tensor, int rank);

// Dtype, shape and device at once, for an argument whose every property follows from others.
void check_tensor(const std::string& what, const Tensor& tensor, DType dtype, const Shape& shape,
                  Device device);

std::string describe(const Tensor& tensor);

}  // namespace flagdit
