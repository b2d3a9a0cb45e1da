// What `SlotBuffers` hands to a backend.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "flagdit/repartition.h"

namespace flagdit {

struct RepartitionKernel {
  const SlotBuffer* buffers;  // in device memory on CUDA
  int64_t count;              // of buffers
  const int32_t* swaps;       // (B, N, 2)
  const int32_t* counts;      // (B,)
  int64_t slots, samples, most_rows;
};

// Throws unless all counts and slots are inside. Before anything moves: half a repartition would
// leave tokens in two places.
void check_swaps(const std::string& op, const int32_t* swaps, const int32_t* counts, int64_t slots,
                 int64_t samples);

void repartition_cpu(const RepartitionKernel& kernel);
void repartition_cuda(const RepartitionKernel& kernel, Stream stream);

}  // namespace flagdit
