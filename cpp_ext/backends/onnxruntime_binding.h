// Inputs and outputs of a graph in ONNX Runtime, at fixed addresses of one device.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "flagdit/device.h"
#include "onnxruntime_library.h"

namespace flagdit {

// What bindings of one session share.
struct OnnxGraph {
  OnnxGraph(OnnxLibrary of, std::string its, Device device)
      : library(std::move(of)), name(std::move(its)), stream(device) {}

  OnnxLibrary library;
  std::string name;
  OwnStream stream;  // the session computes on it, and goes before it
  OnnxHandle<OrtSession> session;
  OnnxHandle<OrtMemoryInfo> memory;  // of what is bound; none: of the CPU
  OnnxHandle<OrtRunOptions> run;     // none: those of the library
  // Shapes of inputs that have run once on a GPU: the runtime has memory for them.
  std::vector<std::vector<int64_t>> seen{};

  void check(OrtStatus* status, const char* what) const { library->check(status, name, what); }
  const OrtMemoryInfo* place() const {
    return memory.get() == nullptr ? library->memory : memory.get();
  }
};

class OnnxBinding : public Binding {
 public:
  explicit OnnxBinding(std::shared_ptr<OnnxGraph> graph);

  // place: where the tensor is.
  void add(const Port& port, const Tensor& tensor, const OrtMemoryInfo* place);
  // An output in memory of the host that the runtime takes for it.
  void add(const Port& port);

  void run(Stream stream) override;
  void run_with(const Tails& tails) override;
  bool settled() const override;
  // The outputs that the runtime made, in the order in which they were added.
  std::vector<Bound> outputs(const std::vector<const Port*>& ports);

 private:
  void check(OrtStatus* status, const char* what) const { graph_->check(status, what); }
  Tensor tensor_of(OrtValue* value) const;

  std::shared_ptr<OnnxGraph> graph_;
  OnnxHandle<OrtIoBinding> io_;
  std::vector<int64_t> shapes_;  // of all inputs, one behind the other
};

}  // namespace flagdit
