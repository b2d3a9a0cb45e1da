// What `Picks` hands to a backend.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "flagdit/pick.h"
#include "tick_kernel.h"

namespace flagdit {

struct PickKernel {
  const PickTable* tables;  // in device memory on CUDA
  int64_t count;            // of tables
  Entry entry;
};

void pick_cpu(const PickKernel& kernel);
void pick_cuda(const PickKernel& kernel, int64_t most_bytes, Stream stream);

std::shared_ptr<const void> upload_cuda(const std::vector<PickTable>& tables);

}  // namespace flagdit
