#include <string>

#include "dilate_kernel.h"
#include "flagdit/checked.h"

namespace flagdit {
namespace {

// One comparison a token, beside some thirty operations that are done on it.
void check_tokens(const DilateKernel& k) {
  for (int64_t at = 0; at < k.slots * k.samples; ++at) {
    if (in_picture(k, k.token[at])) continue;
    const std::string place =
        "slot " + std::to_string(at / k.samples) + " of sample " + std::to_string(at % k.samples);
    check_range("dilate: token in " + place, k.token[at], 0, k.slots - 1);
  }
}

}  // namespace

void dilate_cpu(const DilateKernel& k) {
  check_tokens(k);
  for (int64_t slot = 0; slot < k.slots; ++slot) {
    for (int64_t sample = 0; sample < k.samples; ++sample) lay_out(k, slot, sample);
  }
  for (int64_t slot = k.pinned; slot < k.slots; ++slot) {
    for (int64_t sample = 0; sample < k.samples; ++sample) spread(k, slot, sample);
  }
}

}  // namespace flagdit
