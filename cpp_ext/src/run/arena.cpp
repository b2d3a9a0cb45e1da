#include "flagdit/arena.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <string>

#include "flagdit/checked.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

constexpr int64_t kAlignment = 256;
constexpr size_t kLarge = size_t{4} << 20;

// Asks for large pages, where there are any: to touch every small one of a run for the first time
// takes as long as some steps move memory.
void use_large_pages(std::byte* memory, size_t bytes) {
#ifdef __linux__
  if (bytes < kLarge) return;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t skipped = (page - reinterpret_cast<uintptr_t>(memory) % page) % page;
  madvise(memory + skipped, bytes - skipped, MADV_HUGEPAGE);  // or not: nothing depends on it
#else
  static_cast<void>(memory);
  static_cast<void>(bytes);
#endif
}

}  // namespace

Arena::Arena(Device device, int64_t bytes) : size_(bytes), device_(device) {
  if (device != Device::cpu)
    throw Error(Fault::backend, "memory of a run on " + to_string(device) + " is not there yet");
  const auto all = static_cast<size_t>(sum("arena", {bytes, kAlignment}));
  memory_.reset(static_cast<std::byte*>(std::calloc(1, all)), std::free);
  if (memory_ == nullptr)
    throw Error(Fault::backend, "not enough memory for a run: " + std::to_string(bytes) + " bytes");
  use_large_pages(memory_.get(), all);
  const auto address = reinterpret_cast<uintptr_t>(memory_.get());
  first_ = memory_.get() + (kAlignment - address % kAlignment) % kAlignment;
}

Tensor Arena::make(DType dtype, const Shape& shape) {
  const int64_t bytes = bytes_of(dtype, shape);
  const int64_t whole = sum("arena", {bytes, kAlignment - 1}) / kAlignment * kAlignment;
  const int64_t after = sum("arena", {used_, whole});
  if (first_ != nullptr) check_range("arena: bytes", after, 0, size_);
  Tensor out{first_ == nullptr ? nullptr : first_ + used_, dtype, shape, device_};
  used_ = after;
  return out;
}

}  // namespace flagdit
