#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "flagdit/repartition.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

// The core's SlotBuffers does not own its arrays; Python expects that they stay alive.
struct OwnedSlotBuffers {
  std::vector<Array> arrays;
  SlotBuffers buffers;
};

// The last `recomputed` of the arrays need not survive in the head.
SlotBuffers view_slots(const std::vector<Array>& arrays, int64_t samples, size_t recomputed) {
  if (arrays.empty()) {
    throw std::invalid_argument("SlotBuffers: arrays: got none, allowed 1 or more");
  }
  std::vector<SlotBuffer> buffers;
  const SlotView first = to_slots("SlotBuffers: array 0", arrays.front());
  for (size_t i = 0; i < arrays.size(); ++i) {
    const std::string name = "SlotBuffers: array " + std::to_string(i);
    const SlotView view = to_slots(name, arrays[i]);
    if (view.slots != first.slots || view.device != first.device) {
      throw std::invalid_argument(name + ": got " + std::to_string(view.slots) + " slots on " +
                                  to_string(view.device) + ", allowed " +
                                  std::to_string(first.slots) + " on " + to_string(first.device) +
                                  ", as array 0");
    }
    buffers.push_back(view.buffer);
    buffers.back().recomputed = i >= arrays.size() - recomputed;
  }
  return SlotBuffers(std::move(buffers), first.slots, samples, first.device);
}

void swap_arrays(const OwnedSlotBuffers& self, const ConstArray& swaps, const ConstArray& counts,
                 uintptr_t stream) {
  const Tensor pairs = to_tensor("swap: swaps", swaps);
  const Tensor lengths = to_tensor("swap: counts", counts);
  nb::gil_scoped_release release;
  self.buffers.swap(pairs, lengths, to_stream(stream));
}

void init_slots(OwnedSlotBuffers* self, std::vector<Array> arrays, int64_t samples,
                const std::vector<Array>& recomputed) {
  arrays.insert(arrays.end(), recomputed.begin(), recomputed.end());
  SlotBuffers buffers = view_slots(arrays, samples, recomputed.size());
  new (self) OwnedSlotBuffers{std::move(arrays), std::move(buffers)};
}

// The signatures say Array (arrays.py) where nanobind would say NumPy's untyped NDArray.
constexpr const char* kSlotsInit =
    "def __init__(self, arrays: Sequence[Array], samples: int, recomputed: Sequence[Array] = ()) "
    "-> None";
constexpr const char* kSwap =
    "def swap(self, swaps: Array, counts: Array, stream: int = 0) -> None";

}  // namespace

void register_slots(nb::module_& m) {
  nb::class_<OwnedSlotBuffers>(
      m, "SlotBuffers",
      "The per-slot arrays (N, rows, ...) of one run; keeps them alive. recomputed: "
      "more of them, whose head `denoise` writes next.")
      .def("__init__", &init_slots, nb::sig(kSlotsInit), "arrays"_a, "samples"_a,
           "recomputed"_a = std::vector<Array>())
      .def("swap", &swap_arrays, nb::sig(kSwap), "swaps"_a, "counts"_a, "stream"_a = 0,
           "Exchange the rows of swapped slots in every array, in place; in a recomputed one, copy "
           "those of the first slot of a pair, in the head, to the second, in the tail.");
}

}  // namespace flagdit::python
