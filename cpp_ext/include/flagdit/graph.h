// CUDA graphs of what a run does again and again: captured
// once for every key, then replayed with one launch.
//
// A graph repeats launches with the arguments they were captured with. So
//   - what `record` enqueues must depend on the key alone: the shapes, hence the active tokens, and
//     options such as select's `high` or advance's `last` where they differ between evaluations;
//   - numbers that differ from step to step are read from device memory: give `advance` a
//     StepTable and `select` its entry, and end the evaluation with `tick` (tick.h);
//   - everything recorded, arrays and SlotBuffers, must outlive the cache, at the same addresses.
// All operators can be captured, and with them whatever else on the stream neither synchronises
// nor allocates: copies between fixed addresses, an engine bound to fixed addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "flagdit/lru.h"
#include "flagdit/tensor.h"

namespace flagdit {

class GraphCache {
 public:
  // Beyond `capacity` graphs the least recently used one
  // goes; a run has one for each number of active tokens.
  explicit GraphCache(size_t capacity) : graphs_(capacity) {}

  // Does on the stream what `record` enqueues on it, which is called only if the key is new: on a
  // capturing stream, where nothing executes yet. The default stream cannot capture. If `record`
  // throws, the capture ends and the cache is as before. Returns how many nodes the graph has:
  // kernels, copies, and what else was enqueued.
  int64_t run(uint64_t key, Stream stream, const std::function<void()>& record);

  bool has(uint64_t key) const { return graphs_.has(key); }
  size_t size() const { return graphs_.size(); }

 private:
  struct Graph {
    std::shared_ptr<void> executable;
    int64_t nodes;
  };

  Lru<uint64_t, Graph> graphs_;
};

}  // namespace flagdit
