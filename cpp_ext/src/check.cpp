#include "check.h"

#include <stdexcept>

namespace flagdit {

void refuse(const std::string& what, const std::string& got, const std::string& allowed) {
  throw std::invalid_argument(what + ": got " + got + ", allowed " + allowed);
}

void check_range(const std::string& what, int64_t got, int64_t least, int64_t most) {
  if (got < least || got > most) {
    refuse(what, std::to_string(got), std::to_string(least) + ".." + std::to_string(most));
  }
}

void check_rank(const std::string& what, const Tensor& tensor, int rank) {
  if (tensor.shape.rank != rank) {
    refuse(what, describe(tensor), std::to_string(rank) + " dimensions");
  }
}

void check_tensor(const std::string& what, const Tensor& tensor, DType dtype, const Shape& shape,
                  Device device) {
  if (tensor.dtype != dtype || !(tensor.shape == shape) || tensor.device != device) {
    refuse(what, describe(tensor), describe({nullptr, dtype, shape, device}));
  }
}

std::string describe(const Tensor& tensor) {
  return to_string(tensor.dtype) + " " + to_string(tensor.shape) + " on " +
         to_string(tensor.device);
}

}  // namespace flagdit
