// A graph in ONNX Runtime on the CPU, and memory that is bound to it.
#include <utility>

#include "onnxruntime_library.h"

// The CPU operators of this library (cpp_ext/onnxruntime/register.cpp).
extern "C" OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options,
                                                     const OrtApiBase* base);

namespace flagdit {
namespace {

// Where the runtime may look for data that it was not given: nowhere.
constexpr const char* kNowhere = "/nonexistent";

class OnnxBinding : public Binding {
 public:
  OnnxBinding(OnnxLibrary library, std::shared_ptr<const OnnxHandle<OrtSession>> session,
              std::string name)
      : library_(std::move(library)),
        session_(std::move(session)),
        name_(std::move(name)),
        io_(library_->api->ReleaseIoBinding) {
    check(library_->api->CreateIoBinding(session_->get(), io_.out()), "bind");
  }

  void add(const Port& port, const Tensor& tensor) {
    const OrtApi& api = *library_->api;
    OnnxHandle<OrtValue> value(api.ReleaseValue);  // the binding keeps its own reference
    const Shape& shape = tensor.shape;
    const auto bytes = static_cast<size_t>(bytes_of(tensor.dtype, shape));
    check(api.CreateTensorWithDataAsOrtValue(library_->memory, tensor.data, bytes,
                                             shape.sizes.data(), static_cast<size_t>(shape.rank),
                                             to_onnx(tensor.dtype), value.out()),
          "bind");
    check(port.output ? api.BindOutput(io_.get(), port.name.c_str(), value.get())
                      : api.BindInput(io_.get(), port.name.c_str(), value.get()),
          "bind");
  }

  void run(Stream) override {
    check(library_->api->RunWithBinding(session_->get(), nullptr, io_.get()), "run");
  }

  // An output in memory that the runtime takes for it.
  void add(const Port& port) {
    check(library_->api->BindOutputToDevice(io_.get(), port.name.c_str(), library_->memory),
          "bind");
  }

  // Those, in the order in which they were added.
  std::vector<Bound> outputs(const std::vector<const Port*>& ports) {
    const OrtApi& api = *library_->api;
    OrtAllocator* allocator = nullptr;
    check(api.GetAllocatorWithDefaultOptions(&allocator), "run");
    OrtValue** values = nullptr;
    size_t count = 0;
    check(api.GetBoundOutputValues(io_.get(), allocator, &values, &count), "run");
    std::vector<Bound> out;
    for (size_t i = 0; i < count; ++i) {
      const std::shared_ptr<OrtValue> value(values[i], api.ReleaseValue);
      out.push_back({ports[i]->name, tensor_of(value.get()), value});
    }
    if (values != nullptr) check(api.AllocatorFree(allocator, values), "run");
    return out;
  }

 private:
  void check(OrtStatus* status, const char* what) const { library_->check(status, name_, what); }

  Tensor tensor_of(OrtValue* value) const {
    const OrtApi& api = *library_->api;
    OnnxHandle<OrtTensorTypeAndShapeInfo> info(api.ReleaseTensorTypeAndShapeInfo);
    check(api.GetTensorTypeAndShape(value, info.out()), "run");
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    check(api.GetTensorElementType(info.get(), &type), "run");
    size_t rank = 0;
    check(api.GetDimensionsCount(info.get(), &rank), "run");
    std::vector<int64_t> sizes(rank);
    check(api.GetDimensions(info.get(), sizes.data(), rank), "run");
    void* data = nullptr;
    check(api.GetTensorMutableData(value, &data), "run");
    return {data, from_onnx(type), Shape(sizes.data(), static_cast<int>(rank))};
  }

  OnnxLibrary library_;
  std::shared_ptr<const OnnxHandle<OrtSession>> session_;
  std::string name_;
  OnnxHandle<OrtIoBinding> io_;
};

class OnnxSession : public Session {
 public:
  OnnxSession(OnnxLibrary library, const GraphBytes& graph, const OnnxOptions& options)
      : library_(std::move(library)) {
    name = graph.name;
    backend = "onnxruntime-cpu";
    precision = options.precision;
    const OnnxHandle<OrtSessionOptions> own = made(graph, options);
    OnnxHandle<OrtSession> session(library_->api->ReleaseSession);
    library_->check(
        library_->api->CreateSessionFromArray(library_->env, graph.content.data, graph.content.size,
                                              own.get(), session.out()),
        name, "load");
    session_ = std::make_shared<const OnnxHandle<OrtSession>>(std::move(session));
    read_ports(false);
    read_ports(true);
  }

  const std::vector<Port>& ports() const override { return ports_; }

  std::unique_ptr<Binding> bind(const std::vector<Bound>& tensors) override {
    return bound(tensors);
  }

  std::vector<Bound> run(const std::vector<Bound>& inputs) override {
    const std::unique_ptr<OnnxBinding> binding = bound(inputs);
    std::vector<const Port*> made;
    for (const Port& port : ports_) {
      if (!port.output) continue;
      binding->add(port);
      made.push_back(&port);
    }
    binding->run(nullptr);
    return binding->outputs(made);
  }

 private:
  void check(OrtStatus* status) const { library_->check(status, name, "load"); }

  std::unique_ptr<OnnxBinding> bound(const std::vector<Bound>& tensors) const {
    auto binding = std::make_unique<OnnxBinding>(library_, session_, name);
    for (const Bound& bound : tensors) {
      const Port& its = port(bound.name);
      const Tensor& tensor = bound.tensor;
      if (tensor.dtype != its.dtype || tensor.shape.rank != static_cast<int>(its.axes.size())) {
        throw Error(Fault::bundle, name + ": " + its.name + " is " + to_string(its.dtype) + " " +
                                       to_string(its.axes) + "; got " + to_string(tensor.dtype) +
                                       " " + to_string(tensor.shape));
      }
      binding->add(its, tensor);
    }
    return binding;
  }

  OnnxHandle<OrtSessionOptions> made(const GraphBytes& graph, const OnnxOptions& options) const {
    const OrtApi& api = *library_->api;
    OnnxHandle<OrtSessionOptions> out(api.ReleaseSessionOptions);
    check(api.CreateSessionOptions(out.out()));
    // What it would log comes as an error, too, and holds names of the graph.
    check(api.SetSessionLogSeverityLevel(out.get(), 4));
    check(api.AddSessionConfigEntry(out.get(), "session.load_model_format", "ONNX"));
    check(api.AddSessionConfigEntry(
        out.get(), "session.model_external_initializers_file_folder_path", kNowhere));
    if (options.threads) check(api.SetIntraOpNumThreads(out.get(), *options.threads));
    if (options.lean) {
      check(api.DisableMemPattern(out.get()));
      check(api.AddSessionConfigEntry(out.get(), "flagdit.blocked_attention", "1"));
    }
    if (options.lean || options.precision == "int8-bf16") add_operators(out.get());
    add_data(out.get(), graph);
    return out;
  }

  void add_operators(OrtSessionOptions* options) const {
    OrtStatus* status = RegisterCustomOps(options, library_->base);
    if (status == nullptr) return;
    const std::string reason = library_->api->GetErrorMessage(status);
    library_->api->ReleaseStatus(status);
    throw Error(Fault::backend, std::string("ONNX Runtime ") + library_->base->GetVersionString() +
                                    " takes no operators of flagdit (" + reason + ")");
  }

  void add_data(OrtSessionOptions* options, const GraphBytes& graph) const {
    if (graph.data.empty()) return;
    std::vector<const char*> names;
    std::vector<char*> buffers;
    std::vector<size_t> sizes;
    for (const auto& file : graph.data) {
      names.push_back(file.name.c_str());
      // The interface is not const; the runtime reads only.
      buffers.push_back(static_cast<char*>(const_cast<void*>(file.bytes.data)));
      sizes.push_back(file.bytes.size);
    }
    check(library_->api->AddExternalInitializersFromFilesInMemory(
        options, names.data(), buffers.data(), sizes.data(), names.size()));
  }

  void read_ports(bool output) {
    const OrtApi& api = *library_->api;
    const OrtSession* session = session_->get();
    size_t count = 0;
    check(output ? api.SessionGetOutputCount(session, &count)
                 : api.SessionGetInputCount(session, &count));
    for (size_t i = 0; i < count; ++i) ports_.push_back(read_port(i, output));
  }

  Port read_port(size_t index, bool output) const {
    const OrtApi& api = *library_->api;
    const OrtSession* session = session_->get();
    OrtAllocator* allocator = nullptr;
    check(api.GetAllocatorWithDefaultOptions(&allocator));
    char* text = nullptr;
    check(output ? api.SessionGetOutputName(session, index, allocator, &text)
                 : api.SessionGetInputName(session, index, allocator, &text));
    Port port{text, DType::other, {}, output};
    check(api.AllocatorFree(allocator, text));
    OnnxHandle<OrtTypeInfo> info(api.ReleaseTypeInfo);
    check(output ? api.SessionGetOutputTypeInfo(session, index, info.out())
                 : api.SessionGetInputTypeInfo(session, index, info.out()));
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;  // owned by info
    check(api.CastTypeInfoToTensorInfo(info.get(), &tensor));
    if (tensor == nullptr) return port;  // no tensor, such as a sequence
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    check(api.GetTensorElementType(tensor, &type));
    port.dtype = from_onnx(type);
    port.axes = axes_of(tensor);
    return port;
  }

  std::vector<Axis> axes_of(const OrtTensorTypeAndShapeInfo* tensor) const {
    const OrtApi& api = *library_->api;
    size_t rank = 0;
    check(api.GetDimensionsCount(tensor, &rank));
    std::vector<int64_t> sizes(rank);
    std::vector<const char*> letters(rank);
    check(api.GetDimensions(tensor, sizes.data(), rank));
    check(api.GetSymbolicDimensions(tensor, letters.data(), rank));
    std::vector<Axis> axes;
    for (size_t i = 0; i < rank; ++i)
      axes.push_back(sizes[i] >= 0 ? Axis(sizes[i]) : Axis(std::string(letters[i])));
    return axes;
  }

  OnnxLibrary library_;
  std::shared_ptr<const OnnxHandle<OrtSession>> session_;
  std::vector<Port> ports_;
};

}  // namespace

std::shared_ptr<Session> open_session(OnnxLibrary library, const GraphBytes& graph,
                                      const OnnxOptions& options) {
  return std::make_shared<OnnxSession>(std::move(library), graph, options);
}

}  // namespace flagdit
