#include "flagdit/tick.h"

#include "check.h"
#include "tick_kernel.h"

namespace flagdit {

void tick(const Tensor& entry, Stream stream) {
  check_tensor("tick: entry", entry, DType::i32, {1}, entry.device);
  if (entry.device == Device::cpu) {
    step_on(entry.as<int32_t>());
  } else {
    tick_cuda(entry.as<int32_t>(), stream);
  }
}

}  // namespace flagdit
