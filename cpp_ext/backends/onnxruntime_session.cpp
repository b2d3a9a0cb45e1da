// A graph in ONNX Runtime, on the CPU or a GPU.
#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "../onnxruntime/spent.h"
#include "../onnxruntime/tails.h"
#include "flagdit/amx.h"
#include "flagdit/device.h"
#include "flagdit/readers.h"
#include "onnxruntime_binding.h"
#include "onnxruntime_cuda.h"

// The CPU operators of this library (cpp_ext/onnxruntime/register.cpp).
extern "C" OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options,
                                                     const OrtApiBase* base);

namespace flagdit {
namespace {

// Where the runtime may look for data that it was not given: nowhere.
constexpr const char* kNowhere = "/nonexistent";

constexpr int64_t kLengths = 16;  // on a GPU, see Session

class OnnxSession : public Session {
 public:
  OnnxSession(OnnxLibrary library, const GraphBytes& graph, const OnnxOptions& options)
      : library_(std::move(library)),
        device_(options.device),
        graph_(std::make_shared<OnnxGraph>(library_, graph.name, device_)) {
    name = graph.name;
    backend = "onnxruntime-" + to_string(device_);
    precision = options.precision;
    if (device_ == Device::cuda) lengths = kLengths;
    const OnnxHandle<OrtSessionOptions> own = made(graph, options);
    graph_->session = OnnxHandle<OrtSession>(library_->api->ReleaseSession);
    const onnxruntime::FoundTails found;
    const onnxruntime::Spent spent(spent_of(graph, options));
    check(library_->api->CreateSessionFromArray(
        library_->env, graph.content.data, graph.content.size, own.get(), graph_->session.out()));
    if (device_ == Device::cuda) {
      graph_->memory = cuda_memory(*library_);
      graph_->run = cuda_run(*library_);
    }
    read_ports(false);
    read_ports(true);
    finds_tails_ = has_amx() && all_found(found.ports());
  }

  const std::vector<Port>& ports() const override { return ports_; }
  Device device() const override { return device_; }
  Stream stream() const override { return graph_->stream.get(); }
  bool finds_tails() const override { return finds_tails_; }

  std::unique_ptr<Binding> bind(const std::vector<Bound>& tensors) override {
    return bound(tensors, device_, graph_->place());
  }

  std::vector<Bound> run(const std::vector<Bound>& inputs) override {
    const std::unique_ptr<OnnxBinding> binding = bound(inputs, Device::cpu, library_->memory);
    std::vector<const Port*> made;
    for (const Port& port : ports_) {
      if (!port.output) continue;
      binding->add(port);
      made.push_back(&port);
    }
    binding->run(stream());
    wait(device_, stream());
    return binding->outputs(made);
  }

 private:
  void check(OrtStatus* status) const { library_->check(status, name, "load"); }

  // Of a graph whose operators lay out weights anew.
  static std::set<std::string> spent_of(const GraphBytes& graph, const OnnxOptions& options) {
    if (options.precision != "int8-bf16") return {};
    const auto* content = static_cast<const char*>(graph.content.data);
    return read_once(graph.name, {content, graph.content.size}, "flagdit");
  }

  // Whether there are tails, and the operators find each; they take bf16 only.
  bool all_found(const std::set<std::string>& tails) const {
    const auto tail = [](const Port& port) { return port.tail(); };
    const auto lost = [&](const Port& port) { return tail(port) && tails.count(port.name) == 0; };
    return std::any_of(ports_.begin(), ports_.end(), tail) &&
           std::none_of(ports_.begin(), ports_.end(), lost);
  }

  // place: of tensors on the device.
  std::unique_ptr<OnnxBinding> bound(const std::vector<Bound>& tensors, Device device,
                                     const OrtMemoryInfo* place) const {
    auto binding = std::make_unique<OnnxBinding>(graph_);
    for (const Bound& bound : tensors) {
      const Port& its = port(bound.name);
      const Tensor& tensor = bound.tensor;
      if (tensor.dtype != its.dtype || tensor.device != device ||
          tensor.shape.rank != static_cast<int>(its.axes.size())) {
        throw Error(Fault::bundle, name + ": " + its.name + " is " + to_string(its.dtype) + " " +
                                       to_string(its.axes) + " on " + to_string(device) + "; got " +
                                       to_string(tensor.dtype) + " " + to_string(tensor.shape) +
                                       " on " + to_string(tensor.device));
      }
      binding->add(its, tensor, place);
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
    if (device_ == Device::cuda)
      use_cuda(*library_, out.get(), options.precision, stream(), options.lean);
    if (options.threads) check(api.SetIntraOpNumThreads(out.get(), *options.threads));
    if (options.lean) check(api.DisableMemPattern(out.get()));
    if (options.lean && device_ == Device::cpu) {
      check(api.AddSessionConfigEntry(out.get(), "flagdit.blocked_attention", "1"));
    }
    if (device_ == Device::cpu && (options.lean || options.precision == "int8-bf16"))
      add_operators(out.get());
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
    const OrtSession* session = graph_->session.get();
    size_t count = 0;
    check(output ? api.SessionGetOutputCount(session, &count)
                 : api.SessionGetInputCount(session, &count));
    for (size_t i = 0; i < count; ++i) ports_.push_back(read_port(i, output));
  }

  Port read_port(size_t index, bool output) const {
    const OrtApi& api = *library_->api;
    const OrtSession* session = graph_->session.get();
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

  // Behind a line in the name of an axis is what tells it from another of the same letter: ONNX Runtime
  // takes axes of one name for ones of one size.
  static std::string letter_of(const std::string& name) { return name.substr(0, name.find('_')); }

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
      axes.push_back(sizes[i] >= 0 ? Axis(sizes[i]) : Axis(letter_of(letters[i])));
    return axes;
  }

  OnnxLibrary library_;
  Device device_;
  std::shared_ptr<OnnxGraph> graph_;
  std::vector<Port> ports_;
  bool finds_tails_ = false;
};

}  // namespace

std::shared_ptr<Session> open_session(OnnxLibrary library, const GraphBytes& graph,
                                      const OnnxOptions& options) {
  return std::make_shared<OnnxSession>(std::move(library), graph, options);
}

}  // namespace flagdit
