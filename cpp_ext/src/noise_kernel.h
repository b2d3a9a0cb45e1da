// The formula of normal noise, for both backends, and what `normal_noise` hands to one.
#pragma once

#include <cmath>
#include <cstdint>

#include "flagdit/noise.h"
#include "host_device.h"

namespace flagdit {

struct Words4 {
  uint32_t x0, x1, x2, x3;
};

struct Words2 {
  uint32_t x0, x1;
};

struct Wide {
  uint32_t high, low;
};

FLAGDIT_HOST_DEVICE inline Wide wide_product(uint32_t a, uint32_t b) {
  const uint64_t product = uint64_t{a} * b;
  return {static_cast<uint32_t>(product >> 32), static_cast<uint32_t>(product)};
}

FLAGDIT_HOST_DEVICE inline Words4 philox_round(const Words4& c, const Words2& key) {
  const Wide a = wide_product(0xD2511F53u, c.x0), b = wide_product(0xCD9E8D57u, c.x2);
  return {b.high ^ c.x1 ^ key.x0, b.low, a.high ^ c.x3 ^ key.x1, a.low};
}

// The key goes on between rounds by the golden ratio and by sqrt(3) - 1, in 32 bits.
FLAGDIT_HOST_DEVICE inline Words4 philox_rounds(Words4 counter, Words2 key) {
  for (int round = 0; round < 10; ++round) {
    counter = philox_round(counter, key);
    key = {key.x0 + 0x9E3779B9u, key.x1 + 0xBB67AE85u};
  }
  return counter;
}

// The middle of one of 2^32 equal parts of (0, 1): exact in double, and neither 0 nor 1.
FLAGDIT_HOST_DEVICE inline double to_unit(uint32_t word) {
  return (static_cast<double>(word) + 0.5) * 0x1p-32;
}

// Value `place` of a seed. The counter is torch's: offset 0 in its low half, subsequence `place` in
// its high half.
FLAGDIT_HOST_DEVICE inline float normal_value(uint64_t seed, int64_t place) {
  constexpr double kTwoPi = 6.283185307179586476925;
  const auto low = [](uint64_t x) { return static_cast<uint32_t>(x); };
  const auto subsequence = static_cast<uint64_t>(place);
  const Words4 words =
      philox_rounds({0, 0, low(subsequence), low(subsequence >> 32)}, {low(seed), low(seed >> 32)});
  const double radius = sqrt(-2.0 * log(to_unit(words.x0)));
  return static_cast<float>(radius * sin(kTwoPi * to_unit(words.x1)));
}

struct NoiseKernel {
  float* out;  // (values,): one sample
  int64_t values;
  uint64_t seed;
};

void noise_cpu(const NoiseKernel& kernel);
void noise_cuda(const NoiseKernel& kernel, Stream stream);

}  // namespace flagdit
