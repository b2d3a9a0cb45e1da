#include "flagdit/noise.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

// nanobind's own conversion says of a seed that does
// not fit no more than that the types do not match.
uint64_t noise_seed(nb::handle seed) {
  const nb::object integer = nb::steal(PyNumber_Index(seed.ptr()));
  const uint64_t value = integer ? PyLong_AsUnsignedLongLong(integer.ptr()) : 0;
  if (PyErr_Occurred()) {
    PyErr_Clear();
    throw std::invalid_argument("normal_noise: seeds: got " + std::string(nb::repr(seed).c_str()) +
                                ", allowed integers of 0..18446744073709551615 (2^64 - 1)");
  }
  return value;
}

void draw(const Array& out, const std::vector<nb::object>& seeds, uintptr_t stream) {
  std::vector<uint64_t> numbers;
  numbers.reserve(seeds.size());
  for (const nb::object& seed : seeds) numbers.push_back(noise_seed(seed));
  const Tensor tensor = to_tensor("normal_noise: out", out);
  nb::gil_scoped_release release;
  normal_noise(tensor, numbers, to_stream(stream));
}

}  // namespace

void register_noise(nb::module_& m) {
  m.def("philox", &philox, "counter"_a, "key"_a,
        "Ten rounds of Philox 4x32: the four random words of a counter and a key.");
  m.def("normal_noise", &draw,
        nb::sig("def normal_noise(out: Array, seeds: Sequence[int], stream: int = 0) "
                "-> None"),
        "out"_a, "seeds"_a, "stream"_a = 0,
        "Fill out (B, V) with standard normal values, a row for each seed, as docs/contract.md "
        "specifies; in place.");
}

}  // namespace flagdit::python
