// Kernels with faults, and one without: what the emulator must find. `faults KERNEL THREADS` prints
// what came out, or CUDA's error.
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

// The sum of what all threads before a thread hold, and it; each holds its number.
template <bool kWaits, bool kRight>
__global__ void sum_up(int* out, int threads) {
  __shared__ int sums[1024];
  const int n = static_cast<int>(threadIdx.x);
  sums[n] = n;
  for (int by = 1; by < threads; by *= 2) {
    __syncthreads();
    const int before = n >= by ? sums[n - by] : 0;
    if (kWaits) __syncthreads();  // else another thread may have written over what this one reads
    sums[kRight ? n : n / 2 * 2] += before;
  }
  __syncthreads();
  out[n] = sums[n];
}

// Half of the threads leave before a barrier.
__global__ void leave_early(int* out, int threads) {
  if (static_cast<int>(threadIdx.x) >= threads / 2) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

// Two barriers in two branches are not one.
__global__ void part_ways(int* out, int) {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

// A lane that is missing in a shuffle.
__global__ void shuffle_alone(int* out, int) {
  if (threadIdx.x == 0) return;
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

// Shared memory that nobody wrote.
__global__ void read_unwritten(int* out, int) {
  __shared__ int held[1024];
  out[threadIdx.x] = held[threadIdx.x];
}

// More than a block has.
__global__ void take_too_much(int* out, int) {
  __shared__ double held[8192];
  held[threadIdx.x] = 1.0;
  out[threadIdx.x] = static_cast<int>(held[threadIdx.x]);
}

void launch(const std::string& name, int* out, int threads) {
  if (name == "right") sum_up<true, true><<<1, threads>>>(out, threads);
  if (name == "missing_barrier") sum_up<false, true><<<1, threads>>>(out, threads);
  if (name == "wrong_index") sum_up<true, false><<<1, threads>>>(out, threads);
  if (name == "leave_early") leave_early<<<1, threads>>>(out, threads);
  if (name == "part_ways") part_ways<<<1, threads>>>(out, threads);
  if (name == "shuffle_alone") shuffle_alone<<<1, threads>>>(out, threads);
  if (name == "read_unwritten") read_unwritten<<<1, threads>>>(out, threads);
  if (name == "take_too_much") take_too_much<<<1, threads>>>(out, threads);
}

}  // namespace

int main(int, char** arguments) {
  const int threads = std::atoi(arguments[2]);
  int* out = nullptr;
  cudaMalloc(&out, sizeof(int) * 1024);
  launch(arguments[1], out, threads);
  if (const cudaError_t error = cudaGetLastError()) {
    std::printf("%s: %s\n", cudaGetErrorName(error), cudaGetErrorString(error));
    return 1;
  }
  for (int n = 0; n < threads && n < 1024; ++n) std::printf("%d ", out[n]);
  cudaFree(out);
}
