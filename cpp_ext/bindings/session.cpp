#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "flagdit/onnxruntime.h"
#include "sessions.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

Device to_device(const std::string& name) {
  if (name == "cpu") return Device::cpu;
  if (name == "cuda") return Device::cuda;
  throw std::invalid_argument("device: got '" + name + "', allowed cpu, cuda");
}

nb::dlpack::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return nb::dtype<bool>();
    case DType::i32:
      return nb::dtype<int32_t>();
    case DType::i64:
      return nb::dtype<int64_t>();
    case DType::u64:
      return nb::dtype<uint64_t>();
    case DType::f16:
      return {static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
    case DType::bf16:
      return nb::dtype<uint16_t>();
    case DType::f64:
      return nb::dtype<double>();
    case DType::f32:
      return nb::dtype<float>();
    case DType::other:
      break;
  }
  throw std::invalid_argument(
      "dtype: got another one, allowed bool, int32, int64, uint64, float16, bfloat16, float32 and "
      "float64");
}

// As DLPack has it, which knows bfloat16.
nb::dlpack::dtype dlpack_dtype(DType dtype) {
  if (dtype != DType::bf16) return numpy_dtype(dtype);
  return {static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};
}

nb::object owner_of(const std::shared_ptr<const void>& memory) {
  if (memory == nullptr) return nb::none();
  return nb::capsule(new std::shared_ptr<const void>(memory), [](void* kept) noexcept {
    delete static_cast<std::shared_ptr<const void>*>(kept);
  });
}

// Arrays of NumPy that a call may write, by name; each keeps its memory.
nb::dict arrays_of(const std::vector<Bound>& tensors) {
  nb::dict out;
  for (const Bound& bound : tensors)
    out[bound.name.c_str()] = to_numpy(bound.tensor, owner_of(bound.memory));
  return out;
}

class PythonBinding : public Binding {
 public:
  explicit PythonBinding(nb::object object) : object_(std::move(object)) {}
  ~PythonBinding() override {
    const nb::gil_scoped_acquire acquire;
    object_.reset();
  }
  void run(Stream) override {
    const nb::gil_scoped_acquire acquire;
    object_.attr("run")();
  }
  bool settled() const override {
    const nb::gil_scoped_acquire acquire;
    return nb::cast<bool>(nb::getattr(object_, "settled", nb::bool_(false)));
  }

 private:
  nb::object object_;
};

class PythonSession : public Session {
 public:
  explicit PythonSession(nb::object object) : object_(std::move(object)) {
    ports_ = nb::cast<std::vector<Port>>(object_.attr("ports"));
    name = nb::cast<std::string>(nb::getattr(object_, "name", nb::str("the session")));
    backend = nb::cast<std::string>(nb::getattr(object_, "backend", nb::str("python")));
    precision = nb::cast<std::string>(nb::getattr(object_, "precision", nb::str("float32")));
    lengths = nb::cast<int64_t>(nb::getattr(object_, "lengths", nb::int_(1)));
    device_ = to_device(nb::cast<std::string>(nb::getattr(object_, "device", nb::str("cpu"))));
    const auto at = nb::cast<uintptr_t>(nb::getattr(object_, "stream", nb::int_(0)));
    stream_ = reinterpret_cast<Stream>(at);
  }
  ~PythonSession() override {
    const nb::gil_scoped_acquire acquire;
    object_.reset();
  }

  const std::vector<Port>& ports() const override { return ports_; }
  Device device() const override { return device_; }
  Stream stream() const override { return stream_; }

  std::unique_ptr<Binding> bind(const std::vector<Bound>& tensors) override {
    const nb::gil_scoped_acquire acquire;
    return std::make_unique<PythonBinding>(object_.attr("bind")(arrays_of(tensors)));
  }

  std::vector<Bound> run(const std::vector<Bound>& inputs) override {
    const nb::gil_scoped_acquire acquire;
    const nb::dict made = nb::cast<nb::dict>(object_.attr("run")(arrays_of(inputs)));
    std::vector<Bound> out;
    for (const Bound& bound : to_bound(ports_, made))
      out.push_back({bound.name, bound.tensor, bound.memory});
    return out;
  }

 private:
  nb::object object_;
  std::vector<Port> ports_;
  Device device_;
  Stream stream_;
};

// A binding keeps its arrays and its session.
struct OwnedBinding {
  std::shared_ptr<Session> session;
  std::vector<Bound> arrays;
  std::unique_ptr<Binding> binding;
};

OwnedBinding bind_arrays(const std::shared_ptr<Session>& session, const nb::dict& arrays) {
  const std::vector<Bound> bound = to_bound(session->ports(), arrays);
  return {session, bound, session->bind(bound)};
}

nb::dict run_arrays(const std::shared_ptr<Session>& session, const nb::dict& inputs) {
  const std::vector<Bound> bound = to_bound(session->ports(), inputs);
  std::vector<Bound> made;
  {
    const nb::gil_scoped_release release;
    made = session->run(bound);
  }
  nb::dict out;
  for (Bound& output : made) {
    out[output.name.c_str()] = to_numpy(output.tensor, owner_of(output.memory));
  }
  return out;
}

std::shared_ptr<Session> open_graph(const OnnxRuntime& runtime, const std::string& name,
                                    const nb::object& content, const nb::dict& data,
                                    std::optional<int> threads, const std::string& precision,
                                    bool lean, const std::string& device) {
  GraphBytes graph{name, to_bytes(content), {}};
  for (const auto& [file, bytes] : data)
    graph.data.push_back({nb::cast<std::string>(file), to_bytes(bytes)});
  const nb::gil_scoped_release release;
  return runtime.open(graph, {threads, precision, lean, to_device(device)});
}

constexpr const char* kBind = "def bind(self, tensors: Mapping[str, Array]) -> Binding";
constexpr const char* kRun =
    "def run(self, inputs: Mapping[str, Array]) -> dict[str, NDArray[Any]]";
constexpr const char* kOpenSession =
    "def open(self, name: str, content: bytes | memoryview, data: Mapping[str, bytes | memoryview] "
    "= {}, "
    "threads: int | None = None, precision: str = 'float32', lean: bool = False, device: str = "
    "'cpu') -> Session";

}  // namespace

Bytes to_bytes(const nb::handle& object) {
  using View = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  const auto view = nb::cast<View>(nb::module_::import_("numpy").attr("frombuffer")(
      object, nb::module_::import_("numpy").attr("uint8")));
  return {view.data(), view.size()};
}

std::shared_ptr<Session> to_session(const nb::object& object) {
  if (nb::isinstance<Session>(object)) return nb::cast<std::shared_ptr<Session>>(object);
  return std::make_shared<PythonSession>(object);
}

std::vector<Bound> to_bound(const std::vector<Port>& ports, const nb::dict& arrays) {
  std::vector<Bound> out;
  for (const auto& [key, value] : arrays) {
    std::string name;
    if (!nb::try_cast(key, name))
      throw std::invalid_argument("arrays: got a name that is no text, allowed names of ports");
    // Released wherever the last one who keeps it is, so with the lock of the interpreter.
    const std::shared_ptr<ConstArray> kept(new ConstArray, [](ConstArray* own) {
      const nb::gil_scoped_acquire lock;
      delete own;
    });
    ConstArray& array = *kept;
    if (!nb::try_cast(value, array) || !array.is_valid())
      throw std::invalid_argument(name + ": got no array of numbers, allowed one of NumPy");
    Tensor tensor = to_tensor(name, array);
    const Port* port = find(ports, name);
    const bool bits = array.dtype() == nb::dtype<uint16_t>();
    if (bits && port != nullptr && port->dtype == DType::bf16) tensor.dtype = DType::bf16;
    out.push_back({name, tensor, kept});
  }
  return out;
}

nb::object to_numpy(const Tensor& tensor, const nb::object& owner) {
  size_t sizes[Shape::kMaxRank];
  for (int axis = 0; axis < tensor.shape.rank; ++axis)
    sizes[axis] = static_cast<size_t>(tensor.shape[axis]);
  const auto rank = static_cast<size_t>(tensor.shape.rank);
  if (tensor.device == Device::cpu) {
    const nb::ndarray<nb::numpy> view(tensor.data, rank, sizes, owner, nullptr,
                                      numpy_dtype(tensor.dtype));
    return nb::cast(view, nb::rv_policy::reference);
  }
  const nb::ndarray<nb::array_api> view(tensor.data, rank, sizes, owner, nullptr,
                                        dlpack_dtype(tensor.dtype), nb::device::cuda::value, 0);
  return nb::cast(view, nb::rv_policy::reference);
}

void register_session(nb::module_& m) {
  register_port(m);
  nb::class_<OwnedBinding>(m, "Binding", "Inputs and outputs at fixed addresses; keeps the arrays.")
      .def("run", [](OwnedBinding& self) {
        const nb::gil_scoped_release release;
        self.binding->run(self.session->stream());
      });
  nb::class_<Session>(m, "Session", "A graph that is loaded; threads may share it.")
      .def_prop_ro("ports", &Session::ports)
      .def_ro("name", &Session::name)
      .def_prop_ro(
          "device", [](const Session& self) { return to_string(self.device()); },
          "cpu or cuda: where arrays that are bound lie.")
      .def_prop_ro(
          "stream", [](const Session& self) { return reinterpret_cast<uintptr_t>(self.stream()); },
          "That calls are enqueued on, as a number; 0 on a CPU.")
      .def_ro("backend", &Session::backend)
      .def_ro("precision", &Session::precision)
      .def_prop_ro("finds_tails", &Session::finds_tails,
                   "Whether its operators read and write caches by token, where keys and values "
                   "are forecast: no pass of the core makes a tail.")
      .def("bind", &bind_arrays, "tensors"_a, nb::sig(kBind),
           "All inputs and outputs by name, for a graph that runs often.")
      .def("run", &run_arrays, "inputs"_a, nb::sig(kRun), "Run once; the outputs by name.");
  register_in_turn(m);
  nb::class_<OnnxRuntime>(m, "OnnxRuntime", "ONNX Runtime, from the library at a path.")
      .def(nb::init<const std::string&>(), "library"_a)
      .def_prop_ro("version", &OnnxRuntime::version)
      .def_prop_ro("has_cuda", &OnnxRuntime::has_cuda, "Whether its CUDA provider is there.")
      .def("open", &open_graph, "name"_a, "content"_a, "data"_a = nb::dict(),
           "threads"_a = nb::none(), "precision"_a = "float32", "lean"_a = false,
           "device"_a = "cpu", nb::sig(kOpenSession),
           "A graph, loaded. content, data: of the graph, and of the files that it has its weights "
           "in, which need not be kept. lean: for the graph of a step (onnxruntime.h). device: cpu "
           "or cuda.");
}

}  // namespace flagdit::python
