#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <functional>
#include <optional>
#include <stdexcept>
#include <vector>

#include "arrays.h"
#include "flagdit/advance.h"
#include "flagdit/dilate.h"
#include "flagdit/graph.h"
#include "flagdit/names.h"
#include "flagdit/select.h"
#include "flagdit/tick.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

std::optional<Tensor> to_optional(const std::string& name, const std::optional<Array>& array) {
  return array ? std::optional(to_tensor(name, *array)) : std::nullopt;
}

// The arrays that advance may do without, in the order of its signature.
struct HistoryArrays {
  const std::optional<Array>&time, &rate, &slope, &curve, &span;
};

std::optional<History> to_history(const HistoryArrays& arrays, float t, float next, float bend,
                                  float arc, float forecast, bool keep_norm) {
  if (arrays.time && arrays.rate) {
    return History{to_tensor("advance: time", *arrays.time),
                   to_tensor("advance: rate", *arrays.rate),
                   to_optional("advance: slope", arrays.slope),
                   to_optional("advance: curve", arrays.curve),
                   to_optional("advance: span", arrays.span),
                   t,
                   next,
                   bend,
                   forecast,
                   keep_norm,
                   arc};
  }
  const bool any = arrays.time || arrays.rate || arrays.slope || arrays.curve || arrays.span;
  if (any || bend != 0.0f || arc != 0.0f || forecast != 0.0f) {
    throw std::invalid_argument(
        "advance: history: got some of its arrays or options, allowed only with time and rate");
  }
  return std::nullopt;
}

std::optional<StepTable> to_table(const std::optional<ConstArray>& table,
                                  const std::optional<ConstArray>& entry) {
  if (table.has_value() != entry.has_value()) {
    throw std::invalid_argument("advance: table, entry: got one of them, allowed both or none");
  }
  if (!table) return std::nullopt;
  return StepTable{to_tensor("advance: table", *table), to_tensor("advance: entry", *entry)};
}

void advance_arrays(const ConstArray& output, const ConstArray& guidance, const Array& velocity,
                    const Array& latent, const Array& tokens, const Array& score, const Array& age,
                    const Array& drops, float dt, int64_t pinned, int64_t channels,
                    const std::string& metric, bool last, const std::optional<Array>& time,
                    const std::optional<Array>& rate, const std::optional<Array>& slope,
                    const std::optional<Array>& curve, const std::optional<Array>& span, float t,
                    float next, float bend, float arc, float forecast, bool keep_norm,
                    const std::optional<ConstArray>& table, const std::optional<ConstArray>& entry,
                    const std::optional<Array>& known, const std::optional<Array>& known_velocity,
                    uintptr_t stream) {
  const AdvanceArgs args{
      to_tensor("advance: output", output),
      to_tensor("advance: guidance", guidance),
      to_tensor("advance: velocity", velocity),
      to_tensor("advance: latent", latent),
      to_tensor("advance: tokens", tokens),
      to_tensor("advance: score", score),
      to_tensor("advance: age", age),
      to_tensor("advance: drops", drops),
      dt,
      pinned,
      channels,
      to_metric("advance", metric),
      last,
      to_history({time, rate, slope, curve, span}, t, next, bend, arc, forecast, keep_norm),
      to_table(table, entry),
      to_optional("advance: known", known),
      to_optional("advance: known_velocity", known_velocity)};
  nb::gil_scoped_release release;
  advance(args, to_stream(stream));
}

void dilate_arrays(const Array& score, const ConstArray& token, const Array& grid, int64_t line,
                   int64_t pinned, float share, uintptr_t stream) {
  const DilateArgs args{to_tensor("dilate: score", score),
                        to_tensor("dilate: token", token),
                        to_tensor("dilate: grid", grid),
                        line,
                        pinned,
                        share};
  nb::gil_scoped_release release;
  dilate(args, to_stream(stream));
}

void select_arrays(const ConstArray& score, const ConstArray& age, const ConstArray& drops,
                   const ConstArray& token, int64_t active, int64_t pinned, float starvation,
                   int64_t high, int64_t max_age, const std::optional<ConstArray>& future,
                   const Array& swaps, const Array& counts, const Array& codes,
                   const std::string& mode, const std::optional<ConstArray>& entry,
                   uintptr_t stream) {
  const SelectArgs args{to_tensor("select: score", score),
                        to_tensor("select: age", age),
                        to_tensor("select: drops", drops),
                        to_tensor("select: token", token),
                        future ? to_tensor("select: future", *future) : Tensor{},
                        to_tensor("select: swaps", swaps),
                        to_tensor("select: counts", counts),
                        to_tensor("select: codes", codes),
                        active,
                        pinned,
                        starvation,
                        high,
                        max_age,
                        to_mode("select", mode),
                        entry ? std::optional(to_tensor("select: entry", *entry)) : std::nullopt};
  nb::gil_scoped_release release;
  select(args, to_stream(stream));
}

void run_graph(GraphCache& self, uint64_t key, uintptr_t stream,
               const std::function<void()>& record) {
  self.run(key, to_stream(stream), record);
}

// The signatures say Array (arrays.py) where nanobind would say NumPy's untyped NDArray.
constexpr const char* kAdvance =
    "def advance(output: Array, guidance: Array, velocity: Array, latent: Array, tokens: Array, "
    "score: Array, age: Array, drops: Array, dt: float, pinned: int, channels: int, "
    "metric: str = 'std', last: bool = True, time: Array | None = None, rate: Array | None = None, "
    "slope: Array | None = None, curve: Array | None = None, span: Array | None = None, "
    "t: float = 0, next: float = 0, bend: float = 0, arc: float = 0, forecast: float = 0, "
    "keep_norm: bool = False, table: Array | None = None, entry: Array | None = None, "
    "known: Array | None = None, known_velocity: Array | None = None, stream: int = 0) -> None";
constexpr const char* kDilate =
    "def dilate(score: Array, token: Array, grid: Array, line: int, pinned: int, share: float, "
    "stream: int = 0) -> None";
constexpr const char* kSelect =
    "def select(score: Array, age: Array, drops: Array, token: Array, active: int, pinned: int, "
    "starvation: float, high: int, max_age: int, future: Array | None, swaps: Array, "
    "counts: Array, codes: Array, mode: str = 'corrected', entry: Array | None = None, "
    "stream: int = 0) -> None";
constexpr const char* kTick = "def tick(entry: Array, stream: int = 0) -> None";

}  // namespace

Metric to_metric(const std::string& op, const std::string& name) {
  if (const std::optional<Metric> metric = metric_of(name)) return *metric;
  throw std::invalid_argument(op + ": metric: got '" + name + "', allowed 'std', 'l2', 'change'");
}

void register_ops(nb::module_& m) {
  m.def("advance", &advance_arrays, nb::sig(kAdvance), "output"_a, "guidance"_a, "velocity"_a,
        "latent"_a, "tokens"_a, "score"_a, "age"_a, "drops"_a, "dt"_a, "pinned"_a, "channels"_a,
        "metric"_a = "std", "last"_a = true, "time"_a = nb::none(), "rate"_a = nb::none(),
        "slope"_a = nb::none(), "curve"_a = nb::none(), "span"_a = nb::none(), "t"_a = 0.0f,
        "next"_a = 0.0f, "bend"_a = 0.0f, "arc"_a = 0.0f, "forecast"_a = 0.0f,
        "keep_norm"_a = false, "table"_a = nb::none(), "entry"_a = nb::none(),
        "known"_a = nb::none(), "known_velocity"_a = nb::none(), "stream"_a = 0,
        "Guide the head, move every patch along its velocity, score it; in place.");
  m.def("dilate", &dilate_arrays, nb::sig(kDilate), "score"_a, "token"_a, "grid"_a, "line"_a,
        "pinned"_a, "share"_a, "stream"_a = 0,
        "Raise every score to a share of the highest among its eight neighbours; in place.");
  m.def("select", &select_arrays, nb::sig(kSelect), "score"_a, "age"_a, "drops"_a, "token"_a,
        "active"_a, "pinned"_a, "starvation"_a, "high"_a, "max_age"_a, "future"_a.none(), "swaps"_a,
        "counts"_a, "codes"_a, "mode"_a = "corrected", "entry"_a = nb::none(), "stream"_a = 0,
        "Choose the next head; writes the swaps (B, N, 2) and counts (B,) that lead to it.");
  m.def(
      "tick",
      [](const Array& entry, uintptr_t stream) {
        tick(to_tensor("tick: entry", entry), to_stream(stream));
      },
      nb::sig(kTick), "entry"_a, "stream"_a = 0,
      "Go on to the next entry of the tables that `advance` and `select` read; in place.");
  nb::class_<GraphCache>(
      m, "GraphCache", "CUDA graphs by key, at most `capacity`; the least recently used one goes.")
      .def(nb::init<size_t>(), "capacity"_a)
      .def("run", &run_graph, "key"_a, "stream"_a, "record"_a,
           "Do on the stream what record() enqueues on it, which is called if the key is new.")
      .def("__len__", &GraphCache::size);
}

}  // namespace flagdit::python
