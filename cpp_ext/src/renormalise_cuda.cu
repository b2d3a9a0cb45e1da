#include "cuda_check.h"
#include "cuda_float.h"
#include "renormalise_kernel.h"

namespace flagdit {
namespace {

constexpr int kThreads = 256;

// A slot, sample and group of values of the head.
struct Part {
  int64_t at, group, first, row, other;
};

__device__ Part part_of(const RenormaliseKernel& k, int64_t i) {
  Part part{};
  part.group = i % k.groups.groups;
  part.at = k.pinned * k.samples + i / k.groups.groups;
  const int64_t slot = part.at / k.samples, sample = part.at % k.samples;
  part.first = part.group * (k.values / k.groups.groups);
  part.row = (slot * k.branches * k.samples + sample) * k.values + part.first;
  part.other =
      k.guided == nullptr ? part.row + k.samples * k.values : part.at * k.values + part.first;
  return part;
}

template <typename T>
__device__ float guided_at(const RenormaliseKernel& k, const Part& part, int64_t p) {
  if (k.guided != nullptr) return to_float(static_cast<const T*>(k.guided)[part.other + p]);
  const auto* output = static_cast<const T*>(k.output);
  const float c = to_float(output[part.row + p]), u = to_float(output[part.other + p]);
  return c + (k.guidance[part.first + p] - 1.0f) * (c - u);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) square_groups(RenormaliseKernel k, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const Part part = part_of(k, i);
  float conditional = 0.0f, guided = 0.0f;
  for (int64_t p = 0; p < k.values / k.groups.groups; ++p) {
    const float c = to_float(static_cast<const T*>(k.output)[part.row + p]);
    const float g = guided_at<T>(k, part, p);
    conditional += c * c;
    guided += g * g;
  }
  float* norms = k.norms + (part.at * k.groups.groups + part.group) * 2;
  norms[0] = conditional;
  norms[1] = guided;
}

// A block for each factor, whose threads add up in the same order every time.
__global__ void __launch_bounds__(kThreads) make_factors(RenormaliseKernel k) {
  __shared__ double conditional[kThreads];
  __shared__ double guided[kThreads];
  const int64_t groups = k.groups.groups, group = blockIdx.x % groups;
  const int64_t line = blockIdx.x / groups % k.groups.lines;
  const int64_t sample = blockIdx.x / groups / k.groups.lines;
  double c = 0.0, g = 0.0;
  for (int64_t slot = k.pinned + threadIdx.x; slot < k.slots; slot += kThreads) {
    const int64_t at = slot * k.samples + sample;
    if (line_of(k, k.token[at]) != line) continue;
    c += k.norms[(at * groups + group) * 2];
    g += k.norms[(at * groups + group) * 2 + 1];
  }
  conditional[threadIdx.x] = c;
  guided[threadIdx.x] = g;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) >= half) continue;
    conditional[threadIdx.x] += conditional[threadIdx.x + half];
    guided[threadIdx.x] += guided[threadIdx.x + half];
  }
  if (threadIdx.x == 0) k.factors[blockIdx.x] = factor_of(k, conditional[0], guided[0]);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) scale_groups(RenormaliseKernel k, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const Part part = part_of(k, i);
  const int64_t sample = part.at % k.samples, line = line_of(k, k.token[part.at]);
  const float factor = k.factors[(sample * k.groups.lines + line) * k.groups.groups + part.group];
  auto* output = static_cast<T*>(k.output);
  for (int64_t p = 0; p < k.values / k.groups.groups; ++p) {
    const float scaled = factor * guided_at<T>(k, part, p);
    if (k.guided != nullptr) {
      from_float(scaled, static_cast<T*>(k.guided) + part.other + p);
    } else {
      from_float(scaled, output + part.row + p);
      from_float(scaled, output + part.other + p);
    }
  }
}

template <typename T>
void launch(const RenormaliseKernel& k, Stream stream) {
  const int64_t count = (k.active - k.pinned) * k.samples * k.groups.groups;
  if (count == 0) return;
  const auto blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
  const auto factors = static_cast<unsigned>(k.samples * k.groups.lines * k.groups.groups);
  auto* const on = static_cast<cudaStream_t>(stream);
  square_groups<T><<<blocks, kThreads, 0, on>>>(k, count);
  make_factors<<<factors, kThreads, 0, on>>>(k);
  scale_groups<T><<<blocks, kThreads, 0, on>>>(k, count);
  check_cuda(cudaGetLastError(), "renormalise: launch");
}

}  // namespace

void renormalise_cuda(const RenormaliseKernel& kernel, DType dtype, Stream stream) {
  switch (dtype) {
    case DType::f16:
      return launch<__half>(kernel, stream);
    case DType::bf16:
      return launch<__nv_bfloat16>(kernel, stream);
    default:
      return launch<float>(kernel, stream);
  }
}

}  // namespace flagdit
