#include "flagdit/device.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <cstring>
#include <string>

#include "device_cuda.h"
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

std::shared_ptr<std::byte> allocate_cpu(int64_t bytes) {
  const auto all = static_cast<size_t>(sum("memory", {bytes, kAlignment}));
  const std::shared_ptr<std::byte> memory(static_cast<std::byte*>(std::calloc(1, all)), std::free);
  if (memory == nullptr)
    throw Error(Fault::backend, "not enough memory for a run: " + std::to_string(bytes) + " bytes");
  use_large_pages(memory.get(), all);
  const auto address = reinterpret_cast<uintptr_t>(memory.get());
  return {memory, memory.get() + (kAlignment - address % kAlignment) % kAlignment};
}

size_t size_in_bytes(const Tensor& tensor) {
  return static_cast<size_t>(bytes_of(tensor.dtype, tensor.shape));
}

// Enqueued on a GPU; copied on the CPU.
void move(Device device, void* to, const void* from, size_t bytes, Stream stream) {
  if (bytes == 0) return;
  if (device == Device::cpu) {
    std::memcpy(to, from, bytes);
  } else {
    copy_cuda(to, from, static_cast<int64_t>(bytes), stream);
  }
}

}  // namespace

Gpu Gpu::here() { return with_cuda() ? describe_cuda() : Gpu{}; }

std::shared_ptr<std::byte> allocate(Device device, int64_t bytes) {
  return device == Device::cpu ? allocate_cpu(bytes) : allocate_zeros_cuda(bytes);
}

std::shared_ptr<std::byte> pinned(Device device, int64_t bytes) {
  return device == Device::cpu ? allocate_cpu(bytes) : pinned_cuda(bytes);
}

void enqueue_write(const Tensor& to, const void* from, Stream stream) {
  move(to.device, to.data, from, size_in_bytes(to), stream);
}

void enqueue_read(void* to, const Tensor& from, Stream stream) {
  move(from.device, to, from.data, size_in_bytes(from), stream);
}

void enqueue_copy(const Tensor& to, const Tensor& from, Stream stream) {
  move(to.device, to.data, from.data, size_in_bytes(to), stream);
}

void enqueue_clear(Device device, void* memory, int64_t bytes, Stream stream) {
  if (bytes == 0) return;
  if (device == Device::cpu) {
    std::memset(memory, 0, static_cast<size_t>(bytes));
  } else {
    clear_cuda(memory, bytes, stream);
  }
}

void write(const Tensor& to, const void* from, Stream stream) {
  enqueue_write(to, from, stream);
  wait(to.device, stream);
}

void read(void* to, const Tensor& from, Stream stream) {
  enqueue_read(to, from, stream);
  wait(from.device, stream);
}

void wait(Device device, Stream stream) {
  if (device == Device::cuda) wait_cuda(stream);
}

bool captures(Device device, Stream stream) {
  return device == Device::cuda && captures_cuda(stream);
}

OwnStream::OwnStream(Device device) {
  if (device == Device::cuda) stream_ = make_stream_cuda();
}

Event::Event(Device device) {
  if (device == Device::cuda) event_ = make_event_cuda();
}

void Event::record(Stream stream) {
  if (event_ != nullptr) record_cuda(event_.get(), stream);
}

void Event::hold(Stream other) const {
  if (event_ != nullptr) hold_cuda(event_.get(), other);
}

void Event::wait() const {
  if (event_ != nullptr) wait_event_cuda(event_.get());
}

double Event::seconds_since(const Event& earlier) const {
  return seconds_cuda(earlier.event_.get(), event_.get());
}

}  // namespace flagdit
