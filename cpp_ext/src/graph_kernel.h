// What `GraphCache` hands to its backend, which there is on CUDA only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "flagdit/tensor.h"

namespace flagdit {

// An executable graph. Its owner may let go of it while it runs: CUDA frees it afterwards.
// nodes: how many the graph has, out.
std::shared_ptr<void> capture_cuda(Stream stream, const std::function<void()>& record,
                                   int64_t* nodes);
void replay_cuda(void* graph, Stream stream);

}  // namespace flagdit
