#include "flagdit/graph.h"

#include "graph_kernel.h"

namespace flagdit {

void GraphCache::run(uint64_t key, Stream stream, const std::function<void()>& record) {
  const auto& graph = graphs_.get(key, [&] { return capture_cuda(stream, record); });
  replay_cuda(graph.get(), stream);
}

}  // namespace flagdit
