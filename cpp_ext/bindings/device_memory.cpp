// Memory and streams of the GPU, for sessions that are written in Python.
#include <nanobind/stl/string.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "arrays.h"
#include "flagdit/device.h"
#include "flagdit/error.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

// Keeps its memory; where it lies never changes.
struct DeviceMemory {
  explicit DeviceMemory(int64_t size) : bytes(size) {
    if (bytes < 0) throw Error(Fault::backend, "DeviceMemory: got less than no bytes");
    memory = allocate(Device::cuda, bytes);
  }

  // The memory as an array of the host is, which must be as large.
  Tensor as(const std::string& what, const Tensor& host) const {
    if (host.device != Device::cpu)
      throw Error(Fault::backend, what + ": got an array on a GPU, allowed one of NumPy");
    if (bytes_of(host.dtype, host.shape) != bytes)
      throw Error(Fault::backend, what + ": got " +
                                      std::to_string(bytes_of(host.dtype, host.shape)) +
                                      " bytes, allowed " + std::to_string(bytes));
    return {memory.get(), host.dtype, host.shape, Device::cuda};
  }

  int64_t bytes;
  std::shared_ptr<std::byte> memory;
};

uintptr_t number(const void* address) { return reinterpret_cast<uintptr_t>(address); }

nb::tuple shape_of(const Tensor& tensor) {
  nb::list sizes;
  for (int axis = 0; axis < tensor.shape.rank; ++axis) sizes.append(tensor.shape[axis]);
  return nb::tuple(sizes);
}

void write_array(const DeviceMemory& self, const ConstArray& values, uintptr_t stream) {
  const Tensor host = to_tensor("values", values);
  const Tensor there = self.as("values", host);
  const nb::gil_scoped_release release;
  write(there, host.data, to_stream(stream));
}

void read_array(const DeviceMemory& self, const Array& into, uintptr_t stream) {
  const Tensor host = to_tensor("into", into);
  const Tensor there = self.as("into", host);
  const nb::gil_scoped_release release;
  read(host.data, there, to_stream(stream));
}

}  // namespace

void register_device_memory(nb::module_& m) {
  nb::class_<DeviceMemory>(m, "DeviceMemory",
                           "Zeros in the GPU's memory, at a multiple of 256 bytes, as long as this "
                           "is kept.")
      .def(nb::init<int64_t>(), "bytes"_a, nb::call_guard<nb::gil_scoped_release>())
      .def_ro("bytes", &DeviceMemory::bytes)
      .def_prop_ro("address", [](const DeviceMemory& self) { return number(self.memory.get()); })
      .def("write", &write_array, "values"_a, "stream"_a,
           nb::sig("def write(self, values: Array, stream: int) -> None"),
           "All of it, from an array of NumPy; waits for the stream.")
      .def("read", &read_array, "into"_a, "stream"_a,
           nb::sig("def read(self, into: Array, stream: int) -> None"),
           "All of it, into an array of NumPy; waits for the stream.");
  nb::class_<OwnStream>(m, "DeviceStream", "A stream of the GPU that waits for no other.")
      .def("__init__", [](OwnStream* self) { new (self) OwnStream(Device::cuda); })
      .def_prop_ro("number", [](const OwnStream& self) { return number(self.get()); })
      .def_prop_ro(
          "captures", [](const OwnStream& self) { return captures(Device::cuda, self.get()); },
          nb::call_guard<nb::gil_scoped_release>(),
          "Whether what is enqueued now becomes part of a CUDA graph.")
      .def(
          "wait", [](const OwnStream& self) { wait(Device::cuda, self.get()); },
          nb::call_guard<nb::gil_scoped_release>(), "Until all that was enqueued is done.");
  nb::class_<Tensor>(m, "ArrayView", "Where an array lies, and what it holds.")
      .def(
          "__init__",
          [](Tensor* self, const std::string& name, const ConstArray& array) {
            new (self) Tensor(to_tensor(name, array));
          },
          "name"_a, "array"_a, nb::sig("def __init__(self, name: str, array: Array) -> None"),
          "name: for messages. The array must be kept by somebody else.")
      .def_prop_ro("address", [](const Tensor& self) { return number(self.data); })
      .def_prop_ro("dtype", [](const Tensor& self) { return to_string(self.dtype); })
      .def_prop_ro("shape", &shape_of, nb::sig("def shape(self) -> tuple[int, ...]"))
      .def_prop_ro("device", [](const Tensor& self) { return to_string(self.device); });
}

}  // namespace flagdit::python
