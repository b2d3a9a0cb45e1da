#include "flagdit/noise.h"

#include <string>

#include "check.h"
#include "noise_kernel.h"

namespace flagdit {

std::array<uint32_t, 4> philox(const std::array<uint32_t, 4>& counter,
                               const std::array<uint32_t, 2>& key) {
  const Words4 out =
      philox_rounds({counter[0], counter[1], counter[2], counter[3]}, {key[0], key[1]});
  return {out.x0, out.x1, out.x2, out.x3};
}

void normal_noise(const Tensor& out, const std::vector<uint64_t>& seeds, Stream stream) {
  check_rank("normal_noise: out", out, 2);
  const int64_t samples = out.shape[0], values = out.shape[1];
  check_tensor("normal_noise: out", out, DType::f32, {samples, values}, out.device);
  if (static_cast<int64_t>(seeds.size()) != samples) {
    refuse("normal_noise: seeds", std::to_string(seeds.size()),
           std::to_string(samples) + ", one for every sample of out");
  }
  for (int64_t sample = 0; sample < samples; ++sample) {
    const NoiseKernel kernel{out.as<float>() + sample * values, values,
                             seeds[static_cast<size_t>(sample)]};
    if (out.device == Device::cpu) {
      noise_cpu(kernel);
    } else {
      noise_cuda(kernel, stream);
    }
  }
}

}  // namespace flagdit
