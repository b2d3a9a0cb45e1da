// An engine of TensorRT, and memory that is bound to it.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include "tensorrt_library.h"

namespace flagdit {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::OptProfileSelector;

constexpr uintptr_t kAligned = 256;

void check(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return;
  throw Error(Fault::backend,
              what + ": " + cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
}

DType from_tensorrt(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return DType::f32;
    case DataType::kHALF:
      return DType::f16;
    case DataType::kBF16:
      return DType::bf16;
    case DataType::kINT32:
      return DType::i32;
    case DataType::kINT64:
      return DType::i64;
    case DataType::kBOOL:
      return DType::boolean;
    default:
      return DType::other;
  }
}

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

std::shared_ptr<void> allocated(size_t bytes, const std::string& what) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, std::max<size_t>(bytes, kAligned)), what);
  return {memory, [](void* p) { cudaFree(p); }};
}

// Memory that contexts compute in, one at a time. A context keeps the one that it was given.
struct Scratch {
  std::shared_ptr<void> memory;
  size_t bytes = 0;
};

// A plan that is loaded. Contexts, which belong to it, keep it.
struct Engine {
  TensorRtLibrary library;
  std::string name;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
  std::shared_ptr<CUstream_st> stream;  // for what a binding does before it runs

  [[noreturn]] void fail(const std::string& what) const { library->fail(name + ": " + what); }
};

class TensorRtBinding : public Binding {
 public:
  TensorRtBinding(std::shared_ptr<const Engine> engine) : engine_(std::move(engine)) {
    context_.reset(engine_->engine->createExecutionContext(
        nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED));
    if (context_ == nullptr) engine_->fail("TensorRT makes no execution context");
  }

  // Chooses a profile that all inputs are within, and says how large they are.
  void shape(const std::vector<const Bound*>& inputs) {
    const int32_t profile = profile_of(inputs);
    if (!context_->setOptimizationProfileAsync(profile, engine_->stream.get()))
      engine_->fail("TensorRT does not take profile " + std::to_string(profile));
    check(cudaStreamSynchronize(engine_->stream.get()), engine_->name + ": profile");
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

  Shape shape_of(const std::string& name) const {
    const Dims dims = context_->getTensorShape(name.c_str());
    if (dims.nbDims < 0 || dims.nbDims > Shape::kMaxRank) engine_->fail(name + " has no shape");
    return Shape(dims.d, dims.nbDims);
  }

  void address(const Bound& bound) {
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

  // The memory that the shapes need, which is the largest that any have needed so far.
  void compute_in(Scratch& shared) {
    const size_t bytes = context_->updateDeviceMemorySizeForShapes();
    if (shared.memory == nullptr || bytes > shared.bytes)
      shared = {allocated(bytes, engine_->name + ": scratch memory"), bytes};
    scratch_ = shared.memory;
    context_->setDeviceMemoryV2(scratch_.get(), static_cast<int64_t>(shared.bytes));
  }

  void run(Stream stream) override {
    auto* const on = static_cast<cudaStream_t>(stream);
    if (on == nullptr)
      throw Error(Fault::backend,
                  engine_->name + ": TensorRT runs on a stream of the run, got the default one");
    if (!has_run_) {
      cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
      check(cudaStreamIsCapturing(on, &status), engine_->name);
      if (status != cudaStreamCaptureStatusNone)
        throw Error(Fault::backend, engine_->name +
                                        ": is captured before it has run; run each binding once "
                                        "before a graph of it is made");
    }
    if (!context_->enqueueV3(on)) engine_->fail("TensorRT does not run it");
    has_run_ = true;
  }

 private:
  int32_t profile_of(const std::vector<const Bound*>& inputs) const {
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

  Dims limit(const Bound& bound, int32_t profile, OptProfileSelector which) const {
    return engine_->engine->getProfileShape(bound.name.c_str(), profile, which);
  }

  std::shared_ptr<const Engine> engine_;  // outlives the context
  std::shared_ptr<void> scratch_;
  std::vector<std::shared_ptr<const void>> memory_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  bool has_run_ = false;
};

class TensorRtSession : public Session {
 public:
  TensorRtSession(TensorRtLibrary library, const EnginePlan& plan)
      : ports_(plan.ports), engine_(loaded(std::move(library), plan)) {
    name = plan.name;
    backend = "tensorrt";
    precision = plan.precision;
    check_ports();
  }

  const std::vector<Port>& ports() const override { return ports_; }
  Device device() const override { return Device::cuda; }

  std::unique_ptr<Binding> bind(const std::vector<Bound>& tensors) override {
    return bound(tensors, nullptr);
  }

  std::vector<Bound> run(const std::vector<Bound>& inputs) override {
    std::vector<Bound> outputs;
    const std::unique_ptr<TensorRtBinding> binding = bound(inputs, &outputs);
    binding->run(engine_->stream.get());
    check(cudaStreamSynchronize(engine_->stream.get()), name);
    return outputs;
  }

 private:
  static std::shared_ptr<const Engine> loaded(TensorRtLibrary library, const EnginePlan& plan) {
    auto out = std::make_shared<Engine>();
    out->name = plan.name;
    out->library = std::move(library);
    out->engine.reset(out->library->runtime->deserializeCudaEngine(plan.bytes, plan.size));
    if (out->engine == nullptr)
      out->fail(
          "TensorRT refuses the engine, as it does one for another GPU or version; build it "
          "again on this machine with flagdit build --target tensorrt");
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), plan.name);
    out->stream.reset(stream, [](cudaStream_t s) { cudaStreamDestroy(s); });
    return out;
  }

  // That the plan has the ports that are said, of these types and sizes, and no others.
  void check_ports() const {
    const nvinfer1::ICudaEngine& engine = *engine_->engine;
    for (int32_t i = 0; i < engine.getNbIOTensors(); ++i) {
      const char* its = engine.getIOTensorName(i);
      const Port* port = find(ports_, its);
      if (port == nullptr) differ(std::string(its) + " is not said");
      const bool output = engine.getTensorIOMode(its) == nvinfer1::TensorIOMode::kOUTPUT;
      const DType dtype = from_tensorrt(engine.getTensorDataType(its));
      const Dims dims = engine.getTensorShape(its);
      bool same = output == port->output && dtype == port->dtype &&
                  dims.nbDims == static_cast<int32_t>(port->axes.size());
      for (int32_t axis = 0; same && axis < dims.nbDims; ++axis) {
        const auto* size = std::get_if<int64_t>(&port->axes[static_cast<size_t>(axis)]);
        same = size == nullptr || *size == dims.d[axis];
      }
      if (!same)
        differ(port->name + " is said to be " + to_string(port->dtype) + " " +
               to_string(port->axes) + ", and is " + to_string(dtype) + " of " +
               std::to_string(dims.nbDims) + " dimensions");
    }
    if (static_cast<size_t>(engine.getNbIOTensors()) != ports_.size())
      differ("it has " + std::to_string(engine.getNbIOTensors()) + " of the " +
             std::to_string(ports_.size()) + " inputs and outputs that are said");
  }

  [[noreturn]] void differ(const std::string& how) const {
    throw Error(Fault::bundle, name + ": the engine is another than the manifest says: " + how);
  }

  const Port& checked(const Bound& bound) const {
    const Port& its = port(bound.name);
    const Tensor& tensor = bound.tensor;
    if (tensor.dtype != its.dtype || tensor.shape.rank != static_cast<int>(its.axes.size()) ||
        tensor.device != Device::cuda)
      throw Error(Fault::bundle, name + ": " + its.name + " is " + to_string(its.dtype) + " " +
                                     to_string(its.axes) + " on cuda; got " +
                                     to_string(tensor.dtype) + " " + to_string(tensor.shape) +
                                     " on " + to_string(tensor.device));
    return its;
  }

  // made: outputs in memory of their own, where none is given.
  std::unique_ptr<TensorRtBinding> bound(const std::vector<Bound>& tensors,
                                         std::vector<Bound>* made) {
    std::vector<const Bound*> inputs;
    for (const Bound& bound : tensors)
      if (!checked(bound).output) inputs.push_back(&bound);
    for (const Port& port : ports_)
      if (find(tensors, port.name) == nullptr && (made == nullptr || !port.output))
        throw Error(Fault::bundle, name + ": " + port.name + " is not bound");
    auto binding = std::make_unique<TensorRtBinding>(engine_);
    binding->shape(inputs);
    for (const Bound& bound : tensors) {
      const Shape shape = binding->shape_of(bound.name);
      if (!(shape == bound.tensor.shape))
        throw Error(Fault::bundle, name + ": " + bound.name + " is " + to_string(shape) +
                                       " for these inputs; got " + to_string(bound.tensor.shape));
      binding->address(bound);
    }
    for (const Port& port : ports_) {
      if (made == nullptr || !port.output) continue;
      const Tensor tensor{nullptr, port.dtype, binding->shape_of(port.name), Device::cuda};
      Bound out{port.name, tensor,
                allocated(static_cast<size_t>(bytes_of(port.dtype, tensor.shape)), name)};
      out.tensor.data = const_cast<void*>(out.memory.get());
      binding->address(out);
      made->push_back(std::move(out));
    }
    const std::lock_guard<std::mutex> guard(mutex_);
    binding->compute_in(scratch_);
    return binding;
  }

  std::vector<Port> ports_;
  std::shared_ptr<const Engine> engine_;
  std::mutex mutex_;
  Scratch scratch_;
};

}  // namespace

std::shared_ptr<Session> open_tensorrt(TensorRtLibrary library, const EnginePlan& plan) {
  return std::make_shared<TensorRtSession>(std::move(library), plan);
}

}  // namespace flagdit
