#include "dilate_kernel.h"

namespace flagdit {

void dilate_cpu(const DilateKernel& k) {
  for (int64_t slot = 0; slot < k.slots; ++slot) {
    for (int64_t sample = 0; sample < k.samples; ++sample) lay_out(k, slot, sample);
  }
  for (int64_t slot = k.pinned; slot < k.slots; ++slot) {
    for (int64_t sample = 0; sample < k.samples; ++sample) spread(k, slot, sample);
  }
}

}  // namespace flagdit
