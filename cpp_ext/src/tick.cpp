#include "flagdit/tick.h"

#include "check.h"
#include "tick_kernel.h"

namespace flagdit {

void tick(const Tensor& row, Stream stream) {
  check_tensor("tick: row", row, DType::i32, {1}, row.device);
  if (row.device == Device::cpu) {
    step_on(row.as<int32_t>());
  } else {
    tick_cuda(row.as<int32_t>(), stream);
  }
}

}  // namespace flagdit
