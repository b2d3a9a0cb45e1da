#include "check.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

namespace flagdit {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

[[noreturn]] void refuse_sizes(const char* what, const int64_t* sizes, size_t count,
                               const char* sign, const char* name) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += (i > 0 ? sign : "") + std::to_string(sizes[i]);
  refuse(what, text,
         "sizes of 0 or more whose " + (name + (" is at most " + std::to_string(kMost))));
}

}  // namespace

void refuse(const std::string& what, const std::string& got, const std::string& allowed) {
  throw std::invalid_argument(what + ": got " + got + ", allowed " + allowed);
}

void check_range(const std::string& what, int64_t got, int64_t least, int64_t most) {
  if (got < least || got > most) {
    refuse(what, std::to_string(got), std::to_string(least) + ".." + std::to_string(most));
  }
}

void check_finite(const char* what, float value) {
  if (!std::isfinite(value)) refuse(what, std::to_string(value), "a finite number");
}

int64_t product(const char* what, const int64_t* sizes, size_t count) {
  const int64_t* const end = sizes + count;
  if (std::any_of(sizes, end, [](int64_t size) { return size < 0; }))
    refuse_sizes(what, sizes, count, " * ", "product");
  if (std::find(sizes, end, 0) != end) return 0;
  int64_t out = 1;
  for (const int64_t* size = sizes; size < end; ++size) {
    if (*size > kMost / out) refuse_sizes(what, sizes, count, " * ", "product");
    out *= *size;
  }
  return out;
}

int64_t sum(const char* what, std::initializer_list<int64_t> sizes) {
  int64_t out = 0;
  for (const int64_t size : sizes) {
    if (size < 0 || size > kMost - out)
      refuse_sizes(what, sizes.begin(), sizes.size(), " + ", "sum");
    out += size;
  }
  return out;
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

void check_apart(const std::string& what, std::vector<Range> ranges) {
  const std::less<const void*> before;
  std::sort(ranges.begin(), ranges.end(),
            [&](const Range& a, const Range& b) { return before(a.first, b.first); });
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (before(ranges[i].first, ranges[i - 1].last))
      refuse(what, "arrays that share memory", "each of its own");
  }
}

std::string describe(const Tensor& tensor) {
  return to_string(tensor.dtype) + " " + to_string(tensor.shape) + " on " +
         to_string(tensor.device);
}

}  // namespace flagdit
