// The memory of one run: its size is known before any
// of it is taken, and all of it is given back at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "flagdit/tensor.h"

namespace flagdit {

// Bytes of an arena, which outlive it.
struct Block {
  std::shared_ptr<std::byte> memory;
  int64_t bytes = 0;
};

class Arena {
 public:
  // Hands out no memory, and counts what would be.
  explicit Arena(Device device = Device::cpu) : device_(device) {}
  // In a CPU's memory of before, if it is enough and nobody else has it; in its own otherwise. Throws
  // Error(backend) if there is not so much.
  Arena(Device device, int64_t bytes, Block before = {});

  // A tensor of zeros, which cost nothing until they are touched; 256 bytes from any other, as
  // engines on a GPU want it. Its data is null where the arena only counts. Throws
  // std::invalid_argument if it is not large enough.
  Tensor make(DType dtype, const Shape& shape);

  // Enqueues that all of it is zeros again.
  void clear(Stream stream);

  int64_t used() const { return used_; }
  Device device() const { return device_; }
  // Kept as long as somebody has this, even when the arena is gone.
  std::shared_ptr<const void> memory() const { return memory_; }
  Block block() const { return {memory_, whole_}; }

 private:
  std::shared_ptr<std::byte> memory_;
  int64_t size_ = 0, used_ = 0, whole_ = 0;  // whole: of the memory, which may be larger
  Device device_ = Device::cpu;
};

}  // namespace flagdit
