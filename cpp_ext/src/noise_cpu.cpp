#include "noise_kernel.h"

namespace flagdit {

void noise_cpu(const NoiseKernel& k) {
  for (int64_t place = 0; place < k.values; ++place) k.out[place] = normal_value(k.seed, place);
}

}  // namespace flagdit
