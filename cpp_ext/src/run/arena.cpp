#include "flagdit/arena.h"

#include <string>
#include <utility>

#include "flagdit/checked.h"
#include "flagdit/device.h"

namespace flagdit {

constexpr int64_t kArenaAlignment = 256;

Arena::Arena(Device device, int64_t bytes, Block before)
    : size_(bytes), whole_(bytes), device_(device) {
  if (device == Device::cpu && before.bytes >= bytes && before.memory.use_count() == 1) {
    memory_ = std::move(before.memory);
    whole_ = before.bytes;
    clear(nullptr);
  } else {
    before = {};  // gone before there is other memory
    memory_ = allocate(device, bytes);
  }
}

Tensor Arena::make(DType dtype, const Shape& shape) {
  const int64_t bytes = bytes_of(dtype, shape);
  const int64_t whole =
      sum("arena", {bytes, kArenaAlignment - 1}) / kArenaAlignment * kArenaAlignment;
  const int64_t after = sum("arena", {used_, whole});
  if (memory_ != nullptr) check_range("arena: bytes", after, 0, size_);
  Tensor out{memory_ == nullptr ? nullptr : memory_.get() + used_, dtype, shape, device_};
  used_ = after;
  return out;
}

void Arena::clear(Stream stream) { enqueue_clear(device_, memory_.get(), size_, stream); }

}  // namespace flagdit
