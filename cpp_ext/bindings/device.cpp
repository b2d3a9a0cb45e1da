#include "flagdit/device.h"

#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "flagdit/engines.h"
#include "flagdit/tensorrt.h"
#include "sessions.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

std::shared_ptr<Session> open_plan(const TensorRt& runtime, const std::string& name,
                                   const nb::object& content, std::vector<Port> ports,
                                   const std::string& precision) {
  const Bytes bytes = to_bytes(content);
  const nb::gil_scoped_release release;
  return runtime.open({name, bytes.data, bytes.size, std::move(ports), precision});
}

constexpr const char* kOpenPlan =
    "def open(self, name: str, content: bytes | memoryview, ports: Sequence[Port], precision: str) "
    "-> Session";

}  // namespace

void register_device(nb::module_& m) {
  nb::class_<Gpu>(m, "Gpu", "The GPU that runs use: the first one.")
      .def(
          "__init__",
          [](Gpu* self, bool kernels, std::string name, int architecture, std::string reason) {
            new (self) Gpu{kernels, std::move(name), std::move(reason), architecture, 0, false};
          },
          nb::kw_only(), "kernels"_a = false, "name"_a = "", "architecture"_a = 0, "reason"_a = "")
      .def_static("here", &Gpu::here)
      .def_ro("kernels", &Gpu::kernels, "Whether this build has kernels for one.")
      .def_ro("name", &Gpu::name, "Empty: there is none.")
      .def_ro("reason", &Gpu::reason, "Why there is none, in the driver's words.")
      .def_ro("architecture", &Gpu::architecture, "Its compute capability times ten.")
      .def_ro("free", &Gpu::free, "Bytes of its memory that nobody has.")
      .def_ro("shared", &Gpu::shared, "Whether its memory is the CPU's.");
  m.def(
      "choose_device",
      [](const std::string& device, const std::string& backend, const Gpu& gpu, bool provider) {
        return to_string(choose_device(device, backend, gpu, provider));
      },
      "device"_a, "backend"_a, "gpu"_a, "provider"_a,
      "cpu or cuda: where runs go that ask for that, or for auto. provider: whether ONNX Runtime "
      "has its CUDA provider. Raises the error of a backend with what is missing.");
  m.def("with_tensorrt", &with_tensorrt,
        "Whether this build has the backend TensorRt. Says nothing about whether TensorRT is "
        "installed.");
  nb::class_<TensorRt>(m, "TensorRt", "TensorRT, from the library at a path, or the system's.")
      .def(nb::init<const std::string&>(), "library"_a = "")
      .def_prop_ro("version", &TensorRt::version)
      .def("open", &open_plan, "name"_a, "content"_a, "ports"_a, "precision"_a, nb::sig(kOpenPlan),
           "An engine of this version and for this GPU. ports: as the manifest has them.");
}

}  // namespace flagdit::python
