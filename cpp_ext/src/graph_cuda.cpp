#include <memory>

#include "cuda_check.h"
#include "graph_kernel.h"

namespace flagdit {
namespace {

struct Destroy {
  void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
};
using Graph = std::unique_ptr<CUgraph_st, Destroy>;

// A stream that captures until this ends, which it does whatever is thrown. Thread-local: calls of
// other threads, such as another run's allocations, do not break the capture.
class Capture {
 public:
  explicit Capture(cudaStream_t stream) : stream_(stream) {
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
               "graph: begin the capture");
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  ~Capture() {
    if (!open_) return;
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(stream_, &graph);
    const Graph dropped(graph);
    cudaGetLastError();  // that of a broken capture, or the next launch is blamed for it
  }

  Graph end() {
    open_ = false;
    cudaGraph_t graph = nullptr;
    const cudaError_t status = cudaStreamEndCapture(stream_, &graph);
    Graph owner(graph);
    if (status != cudaSuccess) cudaGetLastError();  // as above
    check_cuda(status, "graph: end the capture");
    return owner;
  }

 private:
  cudaStream_t stream_;
  bool open_ = true;
};

}  // namespace

std::shared_ptr<void> capture_cuda(Stream stream, const std::function<void()>& record,
                                   int64_t* nodes) {
  Capture capture(static_cast<cudaStream_t>(stream));
  record();
  const Graph graph = capture.end();
  size_t count = 0;
  check_cuda(cudaGraphGetNodes(graph.get(), nullptr, &count), "graph: count its nodes");
  *nodes = static_cast<int64_t>(count);
  cudaGraphExec_t executable = nullptr;
  check_cuda(cudaGraphInstantiate(&executable, graph.get(), 0), "graph: instantiate");
  return {executable, [](void* e) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(e)); }};
}

void replay_cuda(void* graph, Stream stream) {
  check_cuda(
      cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), static_cast<cudaStream_t>(stream)),
      "graph: launch");
}

}  // namespace flagdit
