// An engine of TensorRT as a session.
#include <mutex>
#include <utility>

#include "tensorrt_binding.h"

namespace flagdit {
namespace {

using nvinfer1::DataType;

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
  Stream stream() const override { return engine_->stream.get(); }

  std::unique_ptr<Binding> bind(const std::vector<Bound>& tensors) override {
    return bound(tensors, shaped(tensors));
  }

  // Arrays of the host go to the GPU and come back.
  std::vector<Bound> run(const std::vector<Bound>& inputs) override {
    std::vector<Bound> there, out;
    for (const Bound& input : inputs) {
      there.push_back(on_gpu({input.name, input.tensor}));
      write(there.back().tensor, input.tensor.data, stream());
    }
    auto shaped_to = shaped(there);
    for (const Port& port : ports_)
      if (port.output)
        there.push_back(on_gpu({port.name, {nullptr, port.dtype, shaped_to->shape_of(port.name)}}));
    bound(there, std::move(shaped_to))->run(stream());
    for (const Bound& made : there) {
      if (!port(made.name).output) continue;
      const auto memory = allocate(Device::cpu, bytes_of(made.tensor.dtype, made.tensor.shape));
      out.push_back({made.name, {memory.get(), made.tensor.dtype, made.tensor.shape}, memory});
      read(memory.get(), made.tensor, stream());
    }
    return out;
  }

 private:
  static std::shared_ptr<const TensorRtEngine> loaded(TensorRtLibrary library,
                                                      const EnginePlan& plan) {
    auto out = std::make_shared<TensorRtEngine>(std::move(library), plan.name);
    out->engine.reset(out->library->runtime->deserializeCudaEngine(plan.bytes, plan.size));
    if (out->engine == nullptr)
      out->fail(
          "TensorRT refuses the engine, as it does one for another GPU or version; build it "
          "again on this machine with flagdit build --target tensorrt");
    return out;
  }

  // The same, in memory of the GPU.
  static Bound on_gpu(Bound bound) {
    const auto memory = allocate(Device::cuda, bytes_of(bound.tensor.dtype, bound.tensor.shape));
    bound.tensor.data = memory.get();
    bound.tensor.device = Device::cuda;
    bound.memory = memory;
    return bound;
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
      const nvinfer1::Dims dims = engine.getTensorShape(its);
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

  // A binding that knows the sizes of its inputs, and so of its outputs.
  std::unique_ptr<TensorRtBinding> shaped(const std::vector<Bound>& tensors) const {
    std::vector<const Bound*> inputs;
    for (const Bound& bound : tensors)
      if (!checked(bound).output) inputs.push_back(&bound);
    for (const Port& port : ports_)
      if (!port.output && find(tensors, port.name) == nullptr) refuse_unbound(port);
    auto binding = std::make_unique<TensorRtBinding>(engine_);
    binding->shape(inputs);
    return binding;
  }

  std::unique_ptr<TensorRtBinding> bound(const std::vector<Bound>& tensors,
                                         std::unique_ptr<TensorRtBinding> binding) {
    for (const Port& port : ports_)
      if (find(tensors, port.name) == nullptr) refuse_unbound(port);
    for (const Bound& bound : tensors) {
      const Shape shape = binding->shape_of(bound.name);
      if (!(shape == bound.tensor.shape))
        throw Error(Fault::bundle, name + ": " + bound.name + " is " + to_string(shape) +
                                       " for these inputs; got " + to_string(bound.tensor.shape));
      binding->address(bound);
    }
    const std::lock_guard<std::mutex> guard(mutex_);
    binding->compute_in(scratch_);
    return binding;
  }

  [[noreturn]] void refuse_unbound(const Port& port) const {
    throw Error(Fault::bundle, name + ": " + port.name + " is not bound");
  }

  std::vector<Port> ports_;
  std::shared_ptr<const TensorRtEngine> engine_;
  std::mutex mutex_;
  TensorRtScratch scratch_;
};

}  // namespace

std::shared_ptr<Session> open_tensorrt(TensorRtLibrary library, const EnginePlan& plan) {
  return std::make_shared<TensorRtSession>(std::move(library), plan);
}

}  // namespace flagdit
