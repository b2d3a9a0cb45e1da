// An engine of TensorRT that is loaded, and memory that is bound to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "flagdit/device.h"
#include "tensorrt_library.h"

namespace flagdit {

// Memory that contexts compute in, one at a time. A context keeps the one that it was given.
struct TensorRtScratch {
  std::shared_ptr<std::byte> memory;
  int64_t bytes = 0;
};

// A plan that is loaded. Contexts, which belong to it, keep it.
struct TensorRtEngine {
  TensorRtEngine(TensorRtLibrary of, std::string its)
      : library(std::move(of)), name(std::move(its)), stream(Device::cuda) {}

  TensorRtLibrary library;
  std::string name;
  OwnStream stream;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;

  [[noreturn]] void fail(const std::string& what) const { library->fail(name + ": " + what); }
};

class TensorRtBinding : public Binding {
 public:
  explicit TensorRtBinding(std::shared_ptr<const TensorRtEngine> engine);

  // Chooses a profile that all inputs are within, and says how large they are.
  void shape(const std::vector<const Bound*>& inputs);
  Shape shape_of(const std::string& name) const;
  void address(const Bound& bound);
  // The memory that the shapes need, which is the largest that any have needed so far.
  void compute_in(TensorRtScratch& shared);

  void run(Stream stream) override;
  bool settled() const override { return has_run_; }

 private:
  int32_t profile_of(const std::vector<const Bound*>& inputs) const;
  nvinfer1::Dims limit(const Bound& bound, int32_t profile,
                       nvinfer1::OptProfileSelector which) const;

  std::shared_ptr<const TensorRtEngine> engine_;  // outlives the context
  std::shared_ptr<std::byte> scratch_;
  std::vector<std::shared_ptr<const void>> memory_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  bool has_run_ = false;
};

}  // namespace flagdit
