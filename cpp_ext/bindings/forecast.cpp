#include "flagdit/forecast.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <utility>

#include "arrays.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

using Arrays = std::vector<Array>;

// The core's CacheForecast does not own its arrays; Python expects that they stay alive.
struct OwnedForecast {
  std::vector<Arrays> arrays;
  Array anchored;
  CacheForecast forecast;
};

struct Kind {
  DType dtype;
  int64_t bytes;
};

// By name: NumPy has no bfloat16, its bits are in uint16.
Kind to_kind(const std::string& name) {
  if (name == "float32") return {DType::f32, 4};
  if (name == "float16") return {DType::f16, 2};
  if (name == "bfloat16") return {DType::bf16, 2};
  throw std::invalid_argument("CacheForecast: dtype: got '" + name +
                              "', allowed 'float32', 'bfloat16', on cuda also 'float16'");
}

std::string describe(const SlotView& view) {
  return std::to_string(view.slots) + " slots of " + std::to_string(view.buffer.rows) +
         " rows of " + std::to_string(view.buffer.row_bytes) + " bytes on " +
         to_string(view.device);
}

// One array, which must be as the first one.
std::byte* same_as(const SlotView& first, const std::string& name, const Array& array,
                   int64_t row_bytes) {
  SlotView wanted = first, view = to_slots(name, array);
  wanted.buffer.row_bytes = row_bytes;
  if (view.slots != wanted.slots || view.buffer.rows != wanted.buffer.rows ||
      view.buffer.row_bytes != row_bytes || view.device != wanted.device) {
    throw std::invalid_argument(name + ": got " + describe(view) + ", allowed " + describe(wanted));
  }
  return view.buffer.data;
}

CacheForecast view_caches(const std::vector<Arrays>& all, const Array& anchored, int64_t samples,
                          Kind kind) {
  const Arrays &values = all[0], &anchors = all[1], &slopes = all[2];
  if (values.empty() || anchors.size() != values.size() || slopes.size() != values.size()) {
    throw std::invalid_argument("CacheForecast: values, anchors, slopes: got " +
                                std::to_string(values.size()) + ", " +
                                std::to_string(anchors.size()) + ", " +
                                std::to_string(slopes.size()) + ", allowed as many, 1 or more");
  }
  const SlotView first = to_slots("CacheForecast: values 0", values.front());
  const int64_t row_bytes = first.buffer.row_bytes, width = row_bytes / kind.bytes;
  std::vector<ForecastCache> caches;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string at = " " + std::to_string(i);
    const auto view = [&](const char* name, const Array& array, int64_t bytes) {
      return same_as(first, "CacheForecast: " + (name + at), array, bytes);
    };
    caches.push_back({view("values", values[i], width * kind.bytes),
                      view("anchors", anchors[i], width * kind.bytes),
                      reinterpret_cast<uint16_t*>(view("slopes", slopes[i], width * 2))});
  }
  return CacheForecast(std::move(caches), to_tensor("CacheForecast: anchored", anchored),
                       {first.slots, first.buffer.rows, samples, width, kind.dtype, first.device});
}

void init_forecast(OwnedForecast* self, Arrays values, Arrays anchors, Arrays slopes,
                   const Array& anchored, int64_t samples, const std::string& dtype) {
  std::vector<Arrays> all{std::move(values), std::move(anchors), std::move(slopes)};
  CacheForecast forecast = view_caches(all, anchored, samples, to_kind(dtype));
  new (self) OwnedForecast{std::move(all), anchored, std::move(forecast)};
}

void move_caches(const OwnedForecast& self, const std::optional<ConstArray>& swaps,
                 const std::optional<ConstArray>& counts, int64_t fresh, float time, int64_t active,
                 float target, float damping, bool tail, uintptr_t stream) {
  if (swaps.has_value() != counts.has_value()) {
    throw std::invalid_argument("move: swaps, counts: got one of them, allowed both or none");
  }
  std::optional<Swaps> pairs;
  if (swaps) pairs = Swaps{to_tensor("move: swaps", *swaps), to_tensor("move: counts", *counts)};
  nb::gil_scoped_release release;
  self.forecast.move(pairs, {fresh, time, active, target, damping, tail}, to_stream(stream));
}

// The signatures say Array (arrays.py) where nanobind would say NumPy's untyped NDArray.
constexpr const char* kForecastInit =
    "def __init__(self, values: Sequence[Array], anchors: Sequence[Array], "
    "slopes: Sequence[Array], anchored: Array, samples: int, dtype: str) -> None";
constexpr const char* kMove =
    "def move(self, swaps: Array | None, counts: Array | None, fresh: int, time: float, "
    "active: int, target: float, damping: float, tail: bool = True, stream: int = 0) -> None";

}  // namespace

void register_forecast(nb::module_& m) {
  nb::class_<OwnedForecast>(
      m, "CacheForecast",
      "Keys and values (N, R, ...) of one call of `denoise`, with the last computed ones, and "
      "their "
      "slopes in bfloat16, zeros at first; anchored (N, B), when, -inf at first. Keeps all alive. "
      "dtype is that of values and anchors: float32, bfloat16 (any type of 2 bytes), float16.")
      .def("__init__", &init_forecast, nb::sig(kForecastInit), "values"_a, "anchors"_a, "slopes"_a,
           "anchored"_a, "samples"_a, "dtype"_a)
      .def("move", &move_caches, nb::sig(kMove), "swaps"_a.none(), "counts"_a.none(), "fresh"_a,
           "time"_a, "active"_a, "target"_a, "damping"_a, "tail"_a = true, "stream"_a = 0,
           "Take over the `fresh` first slots, which `denoise` computed at `time`, exchange "
           "swapped slots, and forecast what is behind the `active` ones at `target`; in place.");
}

}  // namespace flagdit::python
