#include "flagdit/tensor.h"

#include <algorithm>
#include <cstddef>
#include <stdexcept>

#include "flagdit/checked.h"

namespace flagdit {

Shape::Shape(std::initializer_list<int64_t> sizes)
    : Shape(sizes.begin(), static_cast<int>(sizes.size())) {}

Shape::Shape(const int64_t* first, int count) : rank(count) {
  if (count > kMaxRank) {
    throw std::invalid_argument("shape: got " + std::to_string(count) +
                                " dimensions, allowed at most " + std::to_string(kMaxRank));
  }
  std::copy_n(first, count, sizes.begin());
  product("shape", first, static_cast<size_t>(count));
}

bool Shape::operator==(const Shape& other) const {
  return rank == other.rank && sizes == other.sizes;
}

int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return 1;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::i32:
    case DType::f32:
      return 4;
    case DType::i64:
    case DType::u64:
    case DType::f64:
      return 8;
    case DType::other:
      break;
  }
  return 0;
}

int64_t bytes_of(DType dtype, const Shape& shape) {
  const auto rank = static_cast<size_t>(shape.rank);
  return product("bytes", {product("shape", shape.sizes.data(), rank), size_of(dtype)});
}

Tensor slots_of(const Tensor& tensor, int64_t first, int64_t count) {
  Tensor part = tensor;
  part.shape.sizes[0] = count;
  Shape one = tensor.shape;
  one.sizes[0] = 1;
  part.data = static_cast<std::byte*>(tensor.data) + first * bytes_of(tensor.dtype, one);
  return part;
}

std::string to_string(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return "bool";
    case DType::i32:
      return "int32";
    case DType::i64:
      return "int64";
    case DType::u64:
      return "uint64";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::other:
      break;
  }
  return "another dtype";
}

std::string to_string(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int axis = 0; axis < shape.rank; ++axis) {
    text += (axis > 0 ? ", " : "") + std::to_string(shape[axis]);
  }
  return text + (shape.rank == 1 ? ",)" : ")");
}

}  // namespace flagdit
