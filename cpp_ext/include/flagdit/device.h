// What the host asks of a device: memory, copies, streams and events. On the CPU everything has
// happened when a call returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "flagdit/tensor.h"

namespace flagdit {

// The GPU that runs use: the first one.
struct Gpu {
  bool kernels = false;  // whether this build has kernels for one
  std::string name;      // empty: there is none, or its driver says why not in `reason`
  std::string reason;
  int architecture = 0;  // its compute capability times ten
  int64_t free = 0;      // bytes of its memory that nobody has
  bool shared = false;   // whether its memory is the CPU's

  static Gpu here();
};

// Zeros, 256 bytes aligned; on a GPU that shares its memory with the CPU both can read them. Throws
// Error(backend) if there is not so much.
std::shared_ptr<std::byte> allocate(Device device, int64_t bytes);
// Memory of the host that copies to and from a GPU need not wait for.
std::shared_ptr<std::byte> pinned(Device device, int64_t bytes);

// All values of a tensor, from or to memory of the host: done when it returns, after all that was
// enqueued on the stream before.
void write(const Tensor& to, const void* from, Stream stream);
void read(void* to, const Tensor& from, Stream stream);
// The same, only enqueued: the host's memory is pinned, and stays until the stream is past it.
void enqueue_write(const Tensor& to, const void* from, Stream stream);
void enqueue_read(void* to, const Tensor& from, Stream stream);
// Between tensors of as many bytes on one device, only enqueued.
void enqueue_copy(const Tensor& to, const Tensor& from, Stream stream);
// Zeros, only enqueued.
void enqueue_clear(Device device, void* memory, int64_t bytes, Stream stream);
// Waits until all that was enqueued is done.
void wait(Device device, Stream stream);
// Whether what is enqueued now is kept for a CUDA graph, and not run.
bool captures(Device device, Stream stream);

// A stream of its own, which does not wait for any other; of a CPU it is null.
class OwnStream {
 public:
  explicit OwnStream(Device device);
  Stream get() const { return stream_.get(); }

 private:
  std::shared_ptr<void> stream_;
};

// A point in what is enqueued on a stream. On the CPU there is nothing to wait for.
class Event {
 public:
  explicit Event(Device device);
  void record(Stream stream);
  // Lets what is enqueued on another stream from now on wait for it.
  void hold(Stream other) const;
  void wait() const;                                 // the host waits
  double seconds_since(const Event& earlier) const;  // both are over, and of a GPU

 private:
  std::shared_ptr<void> event_;  // null on the CPU
};

}  // namespace flagdit
