// A tensor of ONNX Runtime as a kernel sees it, with the checks of its shape: a graph gives an
// operator inputs of any rank and sizes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "flagdit/checked.h"

namespace flagdit::onnxruntime {

constexpr int64_t kAny = -1;  // a size that may be anything

// What is the same for all types. Every message names the input, and says what it got.
struct Viewed {
  const char* name;
  std::vector<int64_t> shape;

  size_t rank() const { return shape.size(); }
  int64_t count() const { return product(name, shape.data(), shape.size()); }

  // form: the shape in letters, for people.
  void need_rank(size_t rank, const char* form) const;
  void need_shape(const std::vector<int64_t>& sizes, const char* form) const;
  void need_count(int64_t count, const char* form) const;
  // A size of an axis that there is, at least 1.
  int64_t some(size_t axis) const;
  [[noreturn]] void refuse_shape(const std::string& allowed) const;
};

template <typename T>
struct View : Viewed {
  View(const Viewed& of, const void* values) : Viewed(of), data(static_cast<const T*>(values)) {}

  const T* data;
};

}  // namespace flagdit::onnxruntime
