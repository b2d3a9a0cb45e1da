// Inputs and outputs of a graph, as Python says them.
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "sessions.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

constexpr std::pair<DType, const char*> kNames[] = {
    {DType::boolean, "bool"}, {DType::i32, "int32"},   {DType::i64, "int64"},
    {DType::u64, "uint64"},   {DType::f16, "float16"}, {DType::bf16, "bfloat16"},
    {DType::f32, "float32"},  {DType::f64, "float64"},
};

DType to_dtype(const std::string& name) {
  for (const auto& [dtype, known] : kNames)
    if (name == known) return dtype;
  throw std::invalid_argument("Port: dtype: got '" + name +
                              "', allowed bool, int32, int64, uint64, float16, bfloat16, float32, "
                              "float64");
}

std::string repr_port(const Port& port) {
  return "Port('" + port.name + "', " + to_string(port.dtype) + " " + to_string(port.axes) +
         (port.output ? ", output)" : ")");
}

}  // namespace

void register_port(nb::module_& m) {
  nb::class_<Port>(m, "Port", "An input or output of a graph: its axes are sizes, or letters.")
      .def(
          "__init__",
          [](Port* self, std::string name, const std::string& dtype, std::vector<Axis> axes,
             bool output) {
            new (self) Port{std::move(name), to_dtype(dtype), std::move(axes), output};
          },
          "name"_a, "dtype"_a, "axes"_a, "output"_a = false)
      .def_ro("name", &Port::name)
      .def_prop_ro("dtype", [](const Port& port) { return to_string(port.dtype); })
      .def_ro("axes", &Port::axes)
      .def_ro("output", &Port::output)
      .def("__repr__", &repr_port);
}

}  // namespace flagdit::python
