#include "arrays.h"

#include "flagdit/checked.h"
#include "flagdit/error.h"

namespace flagdit::python {
namespace {

DType to_dtype(nb::dlpack::dtype dtype) {
  if (dtype == nb::dtype<float>()) return DType::f32;
  if (dtype == nb::dtype<int32_t>()) return DType::i32;
  if (dtype == nb::dtype<int64_t>()) return DType::i64;
  if (dtype == nb::dtype<uint64_t>()) return DType::u64;
  if (dtype == nb::dtype<double>()) return DType::f64;
  if (dtype == nb::dtype<bool>()) return DType::boolean;
  const auto code = static_cast<nb::dlpack::dtype_code>(dtype.code);
  if (dtype.bits != 16 || dtype.lanes != 1) return DType::other;
  if (code == nb::dlpack::dtype_code::Float) return DType::f16;
  return code == nb::dlpack::dtype_code::Bfloat ? DType::bf16 : DType::other;
}

Device to_device(const std::string& name, int type) {
  switch (type) {
    case nb::device::cpu::value:
    case nb::device::cuda_host::value:
      return Device::cpu;
    case nb::device::cuda::value:
    case nb::device::cuda_managed::value:
      return Device::cuda;
    default:
      refuse(name, "an array on DLPack device type " + std::to_string(type), "cpu or cuda");
  }
}

// How many values an array has, which nanobind's size() does not say of one of 2^64: it wraps.
template <typename A>
int64_t count(const std::string& name, const A& array) {
  return product(name.c_str(), array.shape_ptr(), array.ndim());
}

template <typename A>
void check_contiguous(const std::string& name, const A& array) {
  if (count(name, array) == 0) return;
  int64_t expected = 1;
  for (size_t axis = array.ndim(); axis-- > 0;) {
    if (array.shape(axis) > 1 && array.stride(axis) != expected) {
      refuse(name,
             "stride " + std::to_string(array.stride(axis)) + " on axis " + std::to_string(axis),
             std::to_string(expected) + " (C-contiguous)");
    }
    expected *= static_cast<int64_t>(array.shape(axis));
  }
}

template <typename A>
void check_aligned(const std::string& name, const A& array) {
  const auto address = reinterpret_cast<uintptr_t>(array.data());
  const uintptr_t bytes = array.itemsize();
  if (count(name, array) > 0 && bytes > 0 && address % bytes != 0) {
    refuse(name, "values " + std::to_string(address % bytes) + " bytes off their place",
           "an address that is a multiple of their " + std::to_string(bytes) + " bytes");
  }
}

template <typename A>
Tensor view(const std::string& name, const A& array) {
  if (array.ndim() > Shape::kMaxRank) {
    refuse(name, std::to_string(array.ndim()) + " dimensions",
           "at most " + std::to_string(Shape::kMaxRank));
  }
  check_contiguous(name, array);
  check_aligned(name, array);
  return {const_cast<void*>(static_cast<const void*>(array.data())), to_dtype(array.dtype()),
          Shape(array.shape_ptr(), static_cast<int>(array.ndim())),
          to_device(name, array.device_type())};
}

}  // namespace

std::string to_path(const nb::str& path) {
  const auto bytes = nb::steal<nb::bytes>(PyUnicode_EncodeFSDefault(path.ptr()));
  PyErr_Clear();
  if (bytes.is_valid()) {
    std::string name(bytes.c_str(), bytes.size());
    if (name.find('\0') == std::string::npos) return name;
  }
  const nb::str shown(nb::repr(path));  // which has escapes for all of it
  throw Error(Fault::bundle, std::string(shown.c_str()) + ": no file can be called that");
}

Tensor to_tensor(const std::string& name, const Array& array) { return view(name, array); }
Tensor to_tensor(const std::string& name, const ConstArray& array) { return view(name, array); }

SlotView to_slots(const std::string& name, const Array& array) {
  if (array.ndim() < 2) {
    refuse(name, std::to_string(array.ndim()) + " dimensions", "2 or more: (slots, rows, ...)");
  }
  const int64_t value_bits = int64_t{array.dtype().bits} * array.dtype().lanes;
  if (value_bits % 8 != 0) {
    refuse(name, std::to_string(value_bits) + " bits a value", "whole bytes");
  }
  check_contiguous(name, array);
  const int64_t values = product(name.c_str(), array.shape_ptr() + 2, array.ndim() - 2);
  const int64_t row_bytes = product(name.c_str(), {values, value_bits / 8});
  return {{static_cast<std::byte*>(array.data()), static_cast<int64_t>(array.shape(1)), row_bytes},
          static_cast<int64_t>(array.shape(0)),
          to_device(name, array.device_type())};
}

}  // namespace flagdit::python
