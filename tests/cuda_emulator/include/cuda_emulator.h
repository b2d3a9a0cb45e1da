// The CUDA language for a C++ compiler. rewrite.py turns launches and shared memory into calls of
// this; the rest of a .cu file is C++ as it is. Every thread of a block is a fiber. Blocks run one
// after the other, and the threads of one in a random order, which a seed decides
// (FLAGDIT_EMULATOR_SEED), from barrier to barrier, a shuffle or vote being one of their warp.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// Of the thread that runs.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace emulator {

struct Launch {
  Launch(dim3 grid, dim3 block, size_t shared = 0, cudaStream_t stream = nullptr)
      : grid(grid), block(block), shared(shared), stream(stream) {}
  void operator()(const char* name, std::function<void()> kernel) const;

  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};

// Where in a source file a thread waits.
struct Site {
  const char* file;
  int line;
};

void barrier(Site site);
// What lane `source` of the warp brings along, of up to eight bytes. All 32 lanes take part.
uint64_t exchange(Site site, unsigned mask, uint64_t value, int source);
unsigned vote(Site site, unsigned mask, bool flag);
int lane();

// Memory of a block, of one place in the source: garbage until it is written.
void* shared_bytes(const char* file, int line, size_t bytes);
void* dynamic_shared_bytes();
template <typename T>
T* shared(const char* file, int line) {
  return static_cast<T*>(shared_bytes(file, line, sizeof(T)));
}

template <typename T>
T exchanged(Site site, unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(site, mask, bits, source);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulator

#define FLAGDIT_SITE (::emulator::Site{__FILE__, __LINE__})
#define __syncthreads() ::emulator::barrier(FLAGDIT_SITE)
#define __syncwarp() ::emulator::exchange(FLAGDIT_SITE, 0xffffffffu, 0, ::emulator::lane())
#define __shfl_sync(mask, value, source) \
  ::emulator::exchanged(FLAGDIT_SITE, mask, value, (source) & 31)
#define __shfl_xor_sync(mask, value, bits) \
  ::emulator::exchanged(FLAGDIT_SITE, mask, value, ::emulator::lane() ^ (bits))
#define __shfl_up_sync(mask, value, by) \
  ::emulator::exchanged(                \
      FLAGDIT_SITE, mask, value,        \
      ::emulator::lane() < (by) ? ::emulator::lane() : ::emulator::lane() - (by))
#define __shfl_down_sync(mask, value, by) \
  ::emulator::exchanged(                  \
      FLAGDIT_SITE, mask, value,          \
      ::emulator::lane() + (by) > 31 ? ::emulator::lane() : ::emulator::lane() + (by))
#define __ballot_sync(mask, flag) ::emulator::vote(FLAGDIT_SITE, mask, flag)
#define __any_sync(mask, flag) (::emulator::vote(FLAGDIT_SITE, mask, flag) != 0)
#define __all_sync(mask, flag) (::emulator::vote(FLAGDIT_SITE, mask, flag) == 0xffffffffu)
#define __threadfence()

// One fiber runs at a time, so a plain read and write cannot be torn apart.
template <typename T>
T atomicAdd(T* at, T more) {
  const T before = *at;
  *at = before + more;
  return before;
}
template <typename T>
T atomicMax(T* at, T value) {
  const T before = *at;
  *at = before < value ? value : before;
  return before;
}
template <typename T>
T atomicCAS(T* at, T expected, T value) {
  const T before = *at;
  if (before == expected) *at = value;
  return before;
}

template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
T max(T a, T b) {
  return a < b ? b : a;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
