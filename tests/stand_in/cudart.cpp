// A stand-in for CUDA's runtime on a machine without a GPU. Memory is the host's, copies are made,
// kernels are only written down: their arrays keep what was in them. It holds who calls it to the
// rules of a real one, and writes a line for each call to the file $STAND_IN_LOG:
//
//   launch NAME stream S               copy FROM->TO BYTES stream S     clear BYTES stream S
//   allocate WHERE BYTES               free                             wait WHAT
//   capture begins|ends stream S       graph launched NODES stream S
//   BROKEN what                        a rule that was broken; the call fails as it would
//
// What it does not do: order streams against each other, or run two captures at once.
#include <cuda_runtime_api.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>

namespace {

// All of it lives as long as the process: libraries let go of memory after main.
struct State {
  std::recursive_mutex lock;
  std::FILE* log = nullptr;
  std::map<const char*, std::pair<size_t, cudaMemoryType>> blocks;  // by address
  size_t used = 0;
  std::unordered_map<const void*, std::string> names;  // of kernels
  cudaStream_t capturing = nullptr;
  bool broken = false;  // the capture under way
  size_t nodes = 0;
  uintptr_t next = 0x5000;
};

State& state() {
  static State* all = new State;
  return *all;
}

thread_local cudaError_t last = cudaSuccess;

__attribute__((format(printf, 1, 2))) void say(const char* format, ...) {
  State& all = state();
  const std::lock_guard held(all.lock);
  if (all.log == nullptr) {
    const char* path = std::getenv("STAND_IN_LOG");
    all.log = path == nullptr ? stderr : std::fopen(path, "a");
    std::setvbuf(all.log, nullptr, _IOLBF, 1 << 12);
  }
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(all.log, format, arguments);
  va_end(arguments);
  std::fputc('\n', all.log);
}

cudaError_t failed(cudaError_t status, const char* what) {
  say("BROKEN %s", what);
  return last = status;
}

// What no capture survives.
bool forbidden(const char* what) {
  State& all = state();
  if (all.capturing == nullptr) return false;
  all.broken = true;
  failed(cudaErrorStreamCaptureUnsupported, (std::string(what) + " in a capture").c_str());
  return true;
}

// Something is enqueued.
void node(cudaStream_t stream) {
  State& all = state();
  if (all.capturing == nullptr) return;
  if (stream != all.capturing)
    say("BROKEN a call on stream %p while %p captures", stream, all.capturing);
  ++all.nodes;
}

cudaMemoryType kind_of(const void* address) {
  State& all = state();
  const std::lock_guard held(all.lock);
  const auto* at = static_cast<const char*>(address);
  auto block = all.blocks.upper_bound(at);
  if (block == all.blocks.begin()) return cudaMemoryTypeUnregistered;
  --block;
  return at < block->first + block->second.first ? block->second.second
                                                 : cudaMemoryTypeUnregistered;
}

const char* named(cudaMemoryType kind) {
  if (kind == cudaMemoryTypeDevice) return "device";
  return kind == cudaMemoryTypeHost ? "pinned" : "pageable";
}

cudaError_t take(void** out, size_t bytes, cudaMemoryType kind) {
  say("allocate %s %zu", named(kind), bytes);
  if (forbidden("an allocation")) return last;
  State& all = state();
  const std::lock_guard held(all.lock);
  const size_t whole = (bytes + 255) / 256 * 256;
  auto* memory = static_cast<char*>(std::aligned_alloc(256, whole == 0 ? 256 : whole));
  std::memset(memory, 0xa5, whole == 0 ? 256 : whole);  // as little zero as a GPU's
  all.blocks[memory] = {bytes, kind};
  all.used += bytes;
  *out = memory;
  return cudaSuccess;
}

cudaError_t give(void* memory) {
  say("free");
  if (memory == nullptr) return cudaSuccess;
  if (forbidden("giving memory back")) return last;
  State& all = state();
  const std::lock_guard held(all.lock);
  const auto block = all.blocks.find(static_cast<char*>(memory));
  if (block == all.blocks.end()) return failed(cudaErrorInvalidValue, "memory that nobody took");
  all.used -= block->second.first;
  all.blocks.erase(block);
  std::free(memory);
  return cudaSuccess;
}

cudaError_t copy(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  const cudaMemoryType source = kind_of(from), target = kind_of(to);
  say("copy %s->%s %zu stream %p", named(source), named(target), bytes, stream);
  if (state().capturing != nullptr && source != cudaMemoryTypeDevice) {
    say("BROKEN a copy in a capture from memory of the host, which is read when it is replayed");
  }
  node(stream);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t waited(const char* what) {
  say("wait %s", what);
  return forbidden("a wait") ? last : cudaSuccess;
}

int architecture() {
  const char* said = std::getenv("STAND_IN_SM");
  return said == nullptr ? 90 : std::atoi(said);
}

template <typename T>
T made() {
  return reinterpret_cast<T>(state().next++);
}

cudaError_t launch(const void* kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  State& all = state();
  const std::lock_guard held(all.lock);
  const auto name = all.names.find(kernel);
  say("launch %s stream %p", name == all.names.end() ? "?" : name->second.c_str(), stream);
  const bool empty = grid.x * grid.y * grid.z == 0 || block.x * block.y * block.z == 0;
  if (empty || block.x * block.y * block.z > 1024 || shared > 232448)
    return failed(cudaErrorInvalidConfiguration, "a launch without threads, or with too many");
  node(stream);
  return cudaSuccess;
}

}  // namespace

extern "C" {

// A line of the test's own.
void stand_in_log(const char* text) { say("%s", text); }
// A kernel of a library whose launches the runtime does not see.
void stand_in_launch(const char* name) {
  say("launch %s stream ?", name);
  if (state().capturing != nullptr) ++state().nodes;
}

// Memory
cudaError_t cudaMalloc(void** out, size_t n) { return take(out, n, cudaMemoryTypeDevice); }
cudaError_t cudaMallocManaged(void** out, size_t n, unsigned) {
  return take(out, n, cudaMemoryTypeDevice);
}
cudaError_t cudaMallocHost(void** out, size_t n) { return take(out, n, cudaMemoryTypeHost); }
cudaError_t cudaHostAlloc(void** out, size_t n, unsigned) {
  return take(out, n, cudaMemoryTypeHost);
}
cudaError_t cudaMallocAsync(void** out, size_t n, cudaStream_t) {
  return take(out, n, cudaMemoryTypeDevice);
}
cudaError_t cudaMallocFromPoolAsync(void** out, size_t n, cudaMemPool_t, cudaStream_t) {
  return take(out, n, cudaMemoryTypeDevice);
}
cudaError_t cudaFree(void* p) { return give(p); }
cudaError_t cudaFreeHost(void* p) { return give(p); }
cudaError_t cudaFreeAsync(void* p, cudaStream_t) { return give(p); }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = size_t{80} << 30;
  *free = *total - state().used;
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind) {
  const cudaError_t status = waited("copy");
  return status != cudaSuccess ? status : copy(to, from, n, nullptr);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind, cudaStream_t s) {
  return copy(to, from, n, s);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind, cudaStream_t stream) {
  say("copy %s->%s %zu stream %p", named(kind_of(from)), named(kind_of(to)), width * height,
      stream);
  node(stream);
  for (size_t i = 0; i < height; ++i)
    std::memcpy(static_cast<char*>(to) + i * to_pitch,
                static_cast<const char*>(from) + i * from_pitch, width);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* p, int value, size_t n) {
  const cudaError_t status = waited("clear");
  if (status == cudaSuccess) std::memset(p, value, n);
  return status;
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t stream) {
  say("clear %zu stream %p", n, stream);
  node(stream);
  std::memset(p, value, n);
  return cudaSuccess;
}
cudaError_t cudaMemcpyFromSymbol(void* to, const void*, size_t n, size_t, cudaMemcpyKind) {
  std::memset(to, 0, n);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* p) {
  *out = {};
  out->type = kind_of(p);
  if (out->type != cudaMemoryTypeUnregistered) out->devicePointer = const_cast<void*>(p);
  if (out->type == cudaMemoryTypeHost) out->hostPointer = const_cast<void*>(p);
  return cudaSuccess;
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = made<cudaMemPool_t>();
  return cudaSuccess;
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
  std::memset(value, 0, 8);
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

// The device: as much of an H100 as anybody asks for.
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {};
  std::strcpy(p->name, "a stand-in");
  p->major = architecture() / 10, p->minor = architecture() % 10;
  p->totalGlobalMem = size_t{80} << 30, p->totalConstMem = 65536;
  p->sharedMemPerBlock = 49152, p->sharedMemPerBlockOptin = 232448;
  p->sharedMemPerMultiprocessor = 233472;
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->warpSize = 32, p->maxThreadsPerBlock = 1024, p->maxThreadsPerMultiProcessor = 2048;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024, p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 2147483647, p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->multiProcessorCount = 132, p->maxBlocksPerMultiProcessor = 32, p->l2CacheSize = 50 << 20;
  p->concurrentKernels = p->unifiedAddressing = p->memoryPoolsSupported = p->cooperativeLaunch = 1;
  p->textureAlignment = 512, p->asyncEngineCount = 3;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  cudaDeviceProp p;
  cudaGetDeviceProperties(&p, 0);
  const std::map<int, int> known{
      {cudaDevAttrComputeCapabilityMajor, p.major},
      {cudaDevAttrComputeCapabilityMinor, p.minor},
      {cudaDevAttrMultiProcessorCount, p.multiProcessorCount},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, static_cast<int>(p.sharedMemPerBlockOptin)},
      {cudaDevAttrMaxSharedMemoryPerBlock, static_cast<int>(p.sharedMemPerBlock)},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, static_cast<int>(p.sharedMemPerMultiprocessor)},
      {cudaDevAttrMaxThreadsPerBlock, p.maxThreadsPerBlock},
      {cudaDevAttrMaxThreadsPerMultiProcessor, p.maxThreadsPerMultiProcessor},
      {cudaDevAttrWarpSize, p.warpSize},
      {cudaDevAttrMaxGridDimX, p.maxGridSize[0]},
      {cudaDevAttrMaxGridDimY, p.maxGridSize[1]},
      {cudaDevAttrMaxGridDimZ, p.maxGridSize[2]},
      {cudaDevAttrMaxBlockDimX, p.maxThreadsDim[0]},
      {cudaDevAttrMaxBlockDimY, p.maxThreadsDim[1]},
      {cudaDevAttrMaxBlockDimZ, p.maxThreadsDim[2]},
      {cudaDevAttrMemoryPoolsSupported, 1},
      {cudaDevAttrCooperativeLaunch, 1},
      {cudaDevAttrL2CacheSize, p.l2CacheSize}};
  const auto at = known.find(attribute);
  *value = at == known.end() ? 0 : at->second;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return waited("device"); }
cudaError_t cudaGetLastError() {
  const cudaError_t status = last;
  last = cudaSuccess;
  return status;
}
cudaError_t cudaPeekAtLastError() { return last; }
const char* cudaGetErrorString(cudaError_t) { return "as the stand-in says"; }
const char* cudaGetErrorName(cudaError_t status) {
  thread_local char text[32];
  std::snprintf(text, sizeof text, "CUDA error %d", status);
  return text;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  *function = nullptr;
  if (result != nullptr) *result = cudaDriverEntryPointSymbolNotFound;
  return cudaErrorNotSupported;
}

// Streams and events
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = made<cudaStream_t>();
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return cudaStreamCreate(stream);
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return waited("stream"); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) {
  say("event held by stream %p", stream);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream != nullptr && stream == state().capturing ? cudaStreamCaptureStatusActive
                                                             : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  say("capture begins stream %p", stream);
  State& all = state();
  if (stream == nullptr || all.capturing != nullptr)
    return failed(cudaErrorStreamCaptureUnsupported, "a second capture, or of the default stream");
  all.capturing = stream;
  all.nodes = 0;
  all.broken = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  say("capture ends stream %p", stream);
  State& all = state();
  all.capturing = nullptr;
  *graph = nullptr;
  if (all.broken) return failed(cudaErrorStreamCaptureInvalidated, "the end of a broken capture");
  *graph = reinterpret_cast<cudaGraph_t>(new size_t(all.nodes));
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = *reinterpret_cast<size_t*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
  *out = reinterpret_cast<cudaGraphExec_t>(new size_t(*reinterpret_cast<size_t*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  say("graph launched %zu stream %p", *reinterpret_cast<size_t*>(graph), stream);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<size_t*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete reinterpret_cast<size_t*>(graph);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = made<cudaEvent_t>();
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t stream) {
  say("event recorded stream %p", stream);
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return waited("event"); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  say("host function stream %p", stream);
  if (state().capturing == nullptr) function(data);
  return cudaSuccess;
}

// Kernels, as nvcc's code registers and launches them
void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, void*, void*,
                            void*, void*, int*) {
  state().names[host] = name;
}

static thread_local struct {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
} pushed;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  pushed = {grid, block, shared, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared;
  *static_cast<cudaStream_t*>(stream) = pushed.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void**, size_t shared,
                               cudaStream_t stream) {
  return launch(kernel, grid, block, shared, stream);
}
cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void**, size_t shared,
                             cudaStream_t stream) {
  return launch(kernel, grid, block, shared, stream);
}
cudaError_t cudaLaunchCooperativeKernel(const void* kernel, dim3 grid, dim3 block, void**,
                                        size_t shared, cudaStream_t stream) {
  return launch(kernel, grid, block, shared, stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* kernel, void**) {
  return launch(kernel, c->gridDim, c->blockDim, c->dynamicSmemBytes, c->stream);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* out, const void*) {
  *out = {};
  out->maxThreadsPerBlock = 1024, out->numRegs = 32, out->maxDynamicSharedSizeBytes = 232448;
  out->binaryVersion = out->ptxVersion = architecture();
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t, cudaFuncAttribute, int, int) {
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int,
                                                                   size_t, unsigned) {
  *blocks = 2;
  return cudaSuccess;
}
cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void*, cudaJitOption*, void**,
                                unsigned, cudaLibraryOption*, void**, unsigned) {
  *library = made<cudaLibrary_t>();
  return cudaSuccess;
}
cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t, const char* name) {
  *kernel = made<cudaKernel_t>();
  state().names[*kernel] = name;
  return cudaSuccess;
}
cudaError_t cudaLibraryUnload(cudaLibrary_t) { return cudaSuccess; }

}  // extern "C"
