// CUDA's runtime on the host, where a stream does everything at once.
#include <cstdlib>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "emulator.h"

using Work = std::function<void()>;

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};
struct CUstream_st {};
struct CUevent_st {};

namespace emulator {
namespace {

// Of a stream: what it was given, and the thread that began it, which alone must not wait or ask for
// memory meanwhile; no thread must where it is for all.
struct Capture {
  std::unique_ptr<CUgraph_st> graph;
  std::thread::id thread;
  bool for_all;
};

struct Runtime {
  cudaError_t last = cudaSuccess;
  std::string words;
  std::map<cudaStream_t, Capture> captures;
};

Runtime& runtime() {
  static Runtime only;
  return only;
}

cudaError_t failed(cudaError_t error, const std::string& words) {
  runtime().last = error;
  runtime().words = words;
  return error;
}

// Does it, or keeps it if the stream captures.
cudaError_t enqueue(cudaStream_t stream, Work work) {
  const auto capture = runtime().captures.find(stream);
  if (capture != runtime().captures.end()) {
    capture->second.graph->work.push_back(std::move(work));
    return cudaSuccess;
  }
  work();
  return runtime().last;
}

cudaError_t in_capture(const char* call) {
  return failed(cudaErrorStreamCaptureUnsupported,
                std::string(call) + ": operation not permitted when stream is capturing");
}

// What waits for the device, or asks it for memory, must not come in a capture.
cudaError_t outside_captures(const char* call) {
  for (const auto& [stream, capture] : runtime().captures)
    if (capture.for_all || capture.thread == std::this_thread::get_id()) return in_capture(call);
  return cudaSuccess;
}

cudaError_t allocate(const char* call, void** memory, size_t bytes) {
  const std::lock_guard<std::recursive_mutex> guard(lock());
  if (const cudaError_t error = outside_captures(call)) return error;
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256 + 256);
  if (*memory == nullptr) return failed(cudaErrorMemoryAllocation, "out of memory");
  fill_with_garbage(*memory, bytes);
  return cudaSuccess;
}

}  // namespace

std::recursive_mutex& lock() {
  static std::recursive_mutex mutex;
  return mutex;
}

void Launch::operator()(const char* name, std::function<void()> kernel) const {
  const std::lock_guard<std::recursive_mutex> guard(lock());
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const bool fits = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffffu &&
                    grid.y <= 65535 && grid.z <= 65535 && threads > 0 && threads <= 1024 &&
                    block.z <= 64 && shared <= 48 * 1024;
  if (!fits) {
    failed(cudaErrorInvalidConfiguration, std::string(name) + ": invalid configuration argument");
    return;
  }
  const Launch launch = *this;
  enqueue(stream, [=] {
    const std::string error = run_grid(launch, name, kernel);
    if (!error.empty()) failed(cudaErrorLaunchFailure, error);
  });
}

}  // namespace emulator

using emulator::allocate, emulator::enqueue, emulator::failed, emulator::lock;
using emulator::in_capture, emulator::outside_captures, emulator::runtime;
using Guard = std::lock_guard<std::recursive_mutex>;

cudaError_t cudaPeekAtLastError() {
  const Guard guard(lock());
  return runtime().last;
}
cudaError_t cudaGetLastError() {
  const Guard guard(lock());
  const cudaError_t last = runtime().last;
  runtime().last = cudaSuccess;
  return last;
}
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    default:
      return error == cudaSuccess ? "cudaSuccess" : "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t) { return runtime().words.c_str(); }

cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : failed(cudaErrorInvalidValue, "invalid device ordinal");
}
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* about, int) {
  *about = {};
  std::strcpy(about->name, "an emulator");
  about->major = 9;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  return *value = 0, cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return *free = *total = size_t{16} << 30, cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const Guard guard(lock());
  return outside_captures("cudaDeviceSynchronize");
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  return allocate("cudaMalloc", memory, bytes);
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  return allocate("cudaMallocHost", memory, bytes);
}
cudaError_t cudaMallocManaged(void** memory, size_t bytes, unsigned) {
  return allocate("cudaMallocManaged", memory, bytes);
}
cudaError_t cudaFree(void* memory) { return std::free(memory), cudaSuccess; }
cudaError_t cudaFreeHost(void* memory) { return std::free(memory), cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  const Guard guard(lock());
  return enqueue(stream, [=] { std::memmove(to, from, bytes); });
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const Guard guard(lock());
  if (const cudaError_t error = outside_captures("cudaMemcpy")) return error;
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  const Guard guard(lock());
  return enqueue(stream, [=] { std::memset(memory, value, bytes); });
}
cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  return cudaMemsetAsync(memory, value, bytes, nullptr);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = new CUstream_st, cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Guard guard(lock());
  return runtime().captures.count(stream) == 0 ? cudaSuccess : in_capture("cudaStreamSynchronize");
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return *event = new CUevent_st, cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  return *milliseconds = 0.0f, cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const Guard guard(lock());
  if (stream == nullptr || stream == cudaStreamLegacy || runtime().captures.count(stream) != 0)
    return failed(cudaErrorStreamCaptureUnsupported,
                  "operation not permitted on the default stream, or while it captures");
  runtime().captures[stream] = {std::make_unique<CUgraph_st>(), std::this_thread::get_id(),
                                mode == cudaStreamCaptureModeGlobal};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Guard guard(lock());
  const auto capture = runtime().captures.find(stream);
  *graph = nullptr;
  if (capture == runtime().captures.end())
    return failed(cudaErrorInvalidValue, "the stream does not capture");
  *graph = capture->second.graph.release();
  runtime().captures.erase(capture);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Guard guard(lock());
  *status = runtime().captures.count(stream) != 0 ? cudaStreamCaptureStatusActive
                                                  : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  return *executable = new CUgraphExec_st{graph->work}, cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Guard guard(lock());
  for (const Work& work : executable->work)
    if (const cudaError_t error = enqueue(stream, work)) return error;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  return *count = graph->work.size(), cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return delete executable, cudaSuccess;
}

// For engines of tests: whether a stream is captured, and a call of a function when it gets there.
extern "C" __attribute__((visibility("default"))) int emulator_captures(cudaStream_t stream) {
  const Guard guard(lock());
  return runtime().captures.count(stream) != 0 ? 1 : 0;
}
extern "C" __attribute__((visibility("default"))) void emulator_call(void (*function)(),
                                                                     cudaStream_t stream) {
  const Guard guard(lock());
  enqueue(stream, function);
}
