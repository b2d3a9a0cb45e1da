// A non-owning view of a contiguous array, and the letters every shape comment uses:
//   B samples, R = branches * B rows (row r belongs to sample r % B), N slots, P values per token.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace flagdit {

enum class DType { boolean, i32, i64, u64, f16, bf16, f32, f64, other };
enum class Device { cpu, cuda };

using Stream = void*;  // a cudaStream_t; CPU ops ignore it

// Its sizes are 0 or more, and their product fits an int64: any other is refused where it is made.
struct Shape {
  static constexpr int kMaxRank = 8;

  Shape(std::initializer_list<int64_t> sizes);
  Shape(const int64_t* sizes, int rank);

  int64_t operator[](int axis) const { return sizes[axis]; }
  bool operator==(const Shape& other) const;

  std::array<int64_t, kMaxRank> sizes{};
  int rank = 0;
};

struct Tensor {
  void* data = nullptr;  // row-major, no gaps
  DType dtype = DType::other;
  Shape shape{};
  Device device = Device::cpu;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// Bytes of one value; 0 of another dtype.
int64_t size_of(DType dtype);
// Bytes of a tensor without gaps. Refuses what an int64 does not hold.
int64_t bytes_of(DType dtype, const Shape& shape);
// `count` slots from `first` on: a part of the tensor along its first axis.
Tensor slots_of(const Tensor& tensor, int64_t first, int64_t count);

std::string to_string(DType dtype);
std::string to_string(Device device);
std::string to_string(const Shape& shape);

// Whether this build has CUDA kernels. Says nothing about whether the machine has a GPU.
bool with_cuda();

}  // namespace flagdit
