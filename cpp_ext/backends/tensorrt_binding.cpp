#include "tensorrt_binding.h"

#include <cuda_runtime_api.h>

#include <algorithm>

namespace flagdit {
namespace {

using nvinfer1::Dims;
using nvinfer1::OptProfileSelector;

constexpr uintptr_t kAligned = 256;

Dims to_dims(const Shape& shape) {
  Dims dims{};
  dims.nbDims = shape.rank;
  for (int axis = 0; axis < shape.rank; ++axis) dims.d[axis] = shape[axis];
  return dims;
}

std::string text_of(const Dims& dims) {
  return to_string(Shape(dims.d, std::clamp<int>(dims.nbDims, 0, Shape::kMaxRank)));
}

bool between(const Shape& shape, const Dims& least, const Dims& most) {
  if (least.nbDims != shape.rank || most.nbDims != shape.rank) return false;
  for (int axis = 0; axis < shape.rank; ++axis)
    if (shape[axis] < least.d[axis] || shape[axis] > most.d[axis]) return false;
  return true;
}

}  // namespace

TensorRtBinding::TensorRtBinding(std::shared_ptr<const TensorRtEngine> engine)
    : engine_(std::move(engine)) {
  context_.reset(engine_->engine->createExecutionContext(
      nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED));
  if (context_ == nullptr) engine_->fail("TensorRT makes no execution context");
}

void TensorRtBinding::shape(const std::vector<const Bound*>& inputs) {
  const int32_t profile = profile_of(inputs);
  if (!context_->setOptimizationProfileAsync(profile,
                                             static_cast<cudaStream_t>(engine_->stream.get())))
    engine_->fail("TensorRT does not take profile " + std::to_string(profile));
  wait(Device::cuda, engine_->stream.get());
  for (const Bound* bound : inputs) {
    if (!context_->setInputShape(bound->name.c_str(), to_dims(bound->tensor.shape)))
      engine_->fail("TensorRT does not take " + bound->name + " of " +
                    to_string(bound->tensor.shape));
  }
  const char* missing = nullptr;
  if (context_->inferShapes(1, &missing) != 0)
    engine_->fail(std::string("TensorRT does not know the shape of ") +
                  (missing == nullptr ? "an output" : missing));
}

Shape TensorRtBinding::shape_of(const std::string& name) const {
  const Dims dims = context_->getTensorShape(name.c_str());
  if (dims.nbDims < 0 || dims.nbDims > Shape::kMaxRank) engine_->fail(name + " has no shape");
  return Shape(dims.d, dims.nbDims);
}

void TensorRtBinding::address(const Bound& bound) {
  const auto address = reinterpret_cast<uintptr_t>(bound.tensor.data);
  if (address == 0 || address % kAligned != 0)
    throw Error(Fault::backend,
                engine_->name + ": " + bound.name + " is " +
                    (address == 0 ? "at no address"
                                  : std::to_string(address % kAligned) + " bytes off its place") +
                    "; TensorRT allows addresses that are multiples of 256 bytes");
  if (!context_->setTensorAddress(bound.name.c_str(), bound.tensor.data))
    engine_->fail("TensorRT does not take the address of " + bound.name);
  memory_.push_back(bound.memory);
}

void TensorRtBinding::compute_in(TensorRtScratch& shared) {
  const auto bytes = static_cast<int64_t>(context_->updateDeviceMemorySizeForShapes());
  if (shared.memory == nullptr || bytes > shared.bytes)
    shared = {allocate(Device::cuda, bytes), bytes};
  scratch_ = shared.memory;
  context_->setDeviceMemoryV2(scratch_.get(), shared.bytes);
}

void TensorRtBinding::run(Stream stream) {
  auto* const on = static_cast<cudaStream_t>(stream);
  if (on == nullptr)
    throw Error(Fault::backend,
                engine_->name + ": TensorRT runs on a stream of the run, got the default one");
  if (!has_run_ && captures(Device::cuda, stream))
    throw Error(Fault::backend, engine_->name +
                                    ": is captured before it has run; run each binding once "
                                    "before a graph of it is made");
  if (!context_->enqueueV3(on)) engine_->fail("TensorRT does not run it");
  has_run_ = true;
}

int32_t TensorRtBinding::profile_of(const std::vector<const Bound*>& inputs) const {
  const int32_t count = engine_->engine->getNbOptimizationProfiles();
  const Bound* outside = nullptr;
  for (int32_t profile = 0; profile < count; ++profile) {
    const auto fits = [&](const Bound* bound) {
      return between(bound->tensor.shape, limit(*bound, profile, OptProfileSelector::kMIN),
                     limit(*bound, profile, OptProfileSelector::kMAX));
    };
    const auto wrong = std::find_if_not(inputs.begin(), inputs.end(), fits);
    if (wrong == inputs.end()) return profile;
    if (outside == nullptr) outside = *wrong;
  }
  if (outside == nullptr) engine_->fail("the engine has no profile");
  throw Error(Fault::backend, engine_->name + ": " + outside->name + " is " +
                                  to_string(outside->tensor.shape) +
                                  "; the engine's profile allows " +
                                  text_of(limit(*outside, 0, OptProfileSelector::kMIN)) + " to " +
                                  text_of(limit(*outside, 0, OptProfileSelector::kMAX)) +
                                  "; build it again for this size");
}

Dims TensorRtBinding::limit(const Bound& bound, int32_t profile, OptProfileSelector which) const {
  return engine_->engine->getProfileShape(bound.name.c_str(), profile, which);
}

}  // namespace flagdit
