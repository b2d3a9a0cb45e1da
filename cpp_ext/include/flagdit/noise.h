// Normal noise that is specified (docs/contract.md): Philox 4x32-10 and Box-Muller, one counter a
// value, so a value depends on its seed and its place only: not on the device, the batch, the
// number of threads, or what was drawn before. It is what torch.randn gives on a CUDA device right
// after manual_seed(seed), for up to as many values as torch's kernel has threads there; beyond,
// torch's values depend on the GPU, and these go on by the same formula.
//
// Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011, section 3.3; Box and Muller, 1958.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "flagdit/tensor.h"

namespace flagdit {

// Ten rounds of Philox 4x32: four random words of a counter and a key.
std::array<uint32_t, 4> philox(const std::array<uint32_t, 4>& counter,
                               const std::array<uint32_t, 2>& key);

// out (B, V) f32: V standard normal values of each of B seeds; all 64 bits of a seed count.
//
// Every device computes in double and rounds once. Two devices, or two libraries of mathematics,
// whose log and sin are within an ulp of double therefore give the same floats, but for about one
// value in 10^8, which differs in its last bit.
void normal_noise(const Tensor& out, const std::vector<uint64_t>& seeds, Stream stream);

}  // namespace flagdit
