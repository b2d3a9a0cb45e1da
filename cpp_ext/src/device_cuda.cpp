#include "device_cuda.h"

#include <cuda_runtime_api.h>

#include <string>

#include "cuda_check.h"
#include "flagdit/error.h"
#include "upload.h"

namespace flagdit {
namespace {

// What a user can do something about, in CUDA's own words.
void check(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next launch is blamed for it
  throw Error(Fault::backend, "CUDA cannot " + what + ": " + cudaGetErrorString(status) + " (" +
                                  cudaGetErrorName(status) + ")");
}

cudaStream_t to_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t to_event(void* event) { return static_cast<cudaEvent_t>(event); }

std::string so_much(int64_t bytes) { return std::to_string(bytes) + " bytes"; }

// Whether the GPU's memory is the CPU's, as on a Jetson.
bool shared_memory() {
  int device = 0, integrated = 0;
  check(cudaGetDevice(&device), "say which GPU it uses");
  check(cudaDeviceGetAttribute(&integrated, cudaDevAttrIntegrated, device), "describe the GPU");
  return integrated != 0;
}

}  // namespace

Gpu describe_cuda() {
  Gpu out;
  out.kernels = true;
  int count = 0, device = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) status = cudaGetDevice(&device);
  cudaDeviceProp about{};
  if (status == cudaSuccess && count > 0) status = cudaGetDeviceProperties(&about, device);
  size_t free = 0, all = 0;
  if (status == cudaSuccess && count > 0) status = cudaMemGetInfo(&free, &all);
  if (status != cudaSuccess || count == 0) {
    cudaGetLastError();
    out.reason = status == cudaSuccess ? "there is none" : cudaGetErrorString(status);
    return out;
  }
  out.name = about.name;
  out.architecture = 10 * about.major + about.minor;
  out.free = static_cast<int64_t>(free);
  out.shared = about.integrated != 0;
  return out;
}

std::shared_ptr<std::byte> allocate_zeros_cuda(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes > 0 ? bytes : 1);
  void* memory = nullptr;
  const std::string what = "take " + so_much(bytes) + " of the GPU's memory for a run";
  check(shared_memory() ? cudaMallocManaged(&memory, size, cudaMemAttachGlobal)
                        : cudaMalloc(&memory, size),
        what);
  std::shared_ptr<std::byte> owner(static_cast<std::byte*>(memory),
                                   [](std::byte* p) { cudaFree(p); });
  check(cudaMemsetAsync(memory, 0, size, cudaStreamLegacy), "clear " + so_much(bytes));
  // Non-blocking streams do not wait for the legacy one.
  check(cudaStreamSynchronize(cudaStreamLegacy), "clear " + so_much(bytes));
  return owner;
}

std::shared_ptr<const void> upload_cuda(const void* table, size_t bytes, const std::string& what) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "take memory for the table of " + what);
  std::shared_ptr<const void> owner(memory, [](const void* p) { cudaFree(const_cast<void*>(p)); });
  check(cudaMemcpy(memory, table, bytes, cudaMemcpyHostToDevice), "copy the table of " + what);
  // A copy from pageable memory may still be on its way, and non-blocking streams do not wait.
  check(cudaStreamSynchronize(cudaStreamLegacy), "copy the table of " + what);
  return owner;
}

std::shared_ptr<std::byte> pinned_cuda(int64_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, static_cast<size_t>(bytes > 0 ? bytes : 1)),
        "pin " + so_much(bytes));
  return {static_cast<std::byte*>(memory), [](std::byte* p) { cudaFreeHost(p); }};
}

void copy_cuda(void* to, const void* from, int64_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, to_stream(stream)),
        "copy " + so_much(bytes));
}

void clear_cuda(void* memory, int64_t bytes, Stream stream) {
  check(cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), to_stream(stream)),
        "clear " + so_much(bytes));
}

void wait_cuda(Stream stream) {
  check(cudaStreamSynchronize(to_stream(stream)), "go on: a call before this one failed");
}

bool captures_cuda(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(to_stream(stream), &status), "say whether a stream is captured");
  return status != cudaStreamCaptureStatusNone;
}

std::shared_ptr<void> make_stream_cuda() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream");
  return {stream, [](void* p) { cudaStreamDestroy(to_stream(p)); }};
}

std::shared_ptr<void> make_event_cuda() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "make an event");
  return {event, [](void* p) { cudaEventDestroy(to_event(p)); }};
}

void record_cuda(void* event, Stream stream) {
  check(cudaEventRecord(to_event(event), to_stream(stream)), "record an event");
}

void hold_cuda(void* event, Stream stream) {
  check(cudaStreamWaitEvent(to_stream(stream), to_event(event), 0), "wait for an event");
}

void wait_event_cuda(void* event) {
  check(cudaEventSynchronize(to_event(event)), "go on: a call before this one failed");
}

double seconds_cuda(void* from, void* to) {
  float milliseconds = 0.0f;
  check(cudaEventElapsedTime(&milliseconds, to_event(from), to_event(to)), "tell the time");
  return milliseconds * 1e-3;
}

}  // namespace flagdit
