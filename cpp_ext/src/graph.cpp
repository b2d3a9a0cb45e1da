#include "flagdit/graph.h"

#include <utility>

#include "graph_kernel.h"

namespace flagdit {

int64_t GraphCache::run(uint64_t key, Stream stream, const std::function<void()>& record) {
  const Graph& graph = graphs_.get(key, [&] {
    int64_t nodes = 0;
    std::shared_ptr<void> executable = capture_cuda(stream, record, &nodes);
    return Graph{std::move(executable), nodes};
  });
  replay_cuda(graph.executable.get(), stream);
  return graph.nodes;
}

}  // namespace flagdit
