// What a run does between two calls of `denoise` besides `advance` and `select`.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "arrays.h"
#include "flagdit/decide.h"
#include "flagdit/finite.h"
#include "flagdit/guide.h"
#include "flagdit/pick.h"
#include "flagdit/renormalise.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

void guide_arrays(const ConstArray& conditional, const std::optional<ConstArray>& unconditional,
                  const ConstArray& guidance, const Array& difference, const Array& guided,
                  uintptr_t stream, const std::optional<ConstArray>& skipping,
                  const std::optional<ConstArray>& skip_guidance) {
  GuideArgs args{to_tensor("guide: conditional", conditional),
                 unconditional ? std::optional(to_tensor("guide: unconditional", *unconditional))
                               : std::nullopt,
                 to_tensor("guide: guidance", guidance), to_tensor("guide: difference", difference),
                 to_tensor("guide: guided", guided)};
  if (skipping) args.skipping = to_tensor("guide: skipping", *skipping);
  if (skip_guidance) args.skip_guidance = to_tensor("guide: skip_guidance", *skip_guidance);
  nb::gil_scoped_release release;
  guide(args, to_stream(stream));
}

void renormalise_arrays(const Array& output, const std::optional<Array>& guided,
                        const ConstArray& guidance, const ConstArray& token, const Array& norms,
                        const Array& factors, int64_t stride, bool at_most, int64_t pinned,
                        uintptr_t stream) {
  RenormaliseArgs args{to_tensor("renormalise: output", output),
                       {},
                       to_tensor("renormalise: guidance", guidance),
                       to_tensor("renormalise: token", token),
                       to_tensor("renormalise: norms", norms),
                       to_tensor("renormalise: factors", factors),
                       {},
                       pinned};
  if (guided) args.guided = to_tensor("renormalise: guided", *guided);
  const Shape& shape = args.factors.shape;
  if (shape.rank == 3) args.groups = {shape[2], stride, shape[1], at_most};
  nb::gil_scoped_release release;
  renormalise(args, to_stream(stream));
}

void decide_arrays(const ConstArray& score, const ConstArray& velocity, const ConstArray& age,
                   const std::optional<ConstArray>& future, const Array& scratch,
                   const Array& active, int64_t pinned, int64_t planned, int64_t bucket,
                   int64_t max_age, double error_budget, double gate,
                   const std::optional<ConstArray>& entry, int64_t head_multiple,
                   uintptr_t stream) {
  const DecideArgs args{
      to_tensor("decide_active: score", score),
      to_tensor("decide_active: velocity", velocity),
      to_tensor("decide_active: age", age),
      future ? to_tensor("decide_active: future", *future) : Tensor{},
      to_tensor("decide_active: scratch", scratch),
      to_tensor("decide_active: active", active),
      pinned,
      planned,
      bucket,
      max_age,
      error_budget,
      gate,
      entry ? std::optional(to_tensor("decide_active: entry", *entry)) : std::nullopt,
      head_multiple};
  nb::gil_scoped_release release;
  decide_active(args, to_stream(stream));
}

void count_values(const ConstArray& values, const Array& count, uintptr_t stream) {
  const Tensor from = to_tensor("count_broken: values", values);
  const Tensor to = to_tensor("count_broken: count", count);
  nb::gil_scoped_release release;
  count_broken(from, to, to_stream(stream));
}

// The core's Picks does not own its arrays; Python expects that they stay alive.
struct OwnedPicks {
  std::vector<Array> tables, outs;
  Picks picks;
};

Picks view_picks(const std::vector<Array>& tables, const std::vector<Array>& outs,
                 const std::vector<int64_t>& first_rows) {
  if (tables.empty() || outs.size() != tables.size() || first_rows.size() != tables.size())
    throw std::invalid_argument("Picks: tables, outs, first_rows: got " +
                                std::to_string(tables.size()) + ", " + std::to_string(outs.size()) +
                                ", " + std::to_string(first_rows.size()) +
                                ", allowed as many, 1 or more");
  std::vector<PickTable> out;
  const SlotView first = to_slots("Picks: table 0", tables.front());
  for (size_t i = 0; i < tables.size(); ++i) {
    const std::string at = " " + std::to_string(i);
    const SlotView table = to_slots("Picks: table" + at, tables[i]);
    const SlotView to = to_slots("Picks: out" + at, outs[i]);
    const int64_t row = table.buffer.row_bytes, taken = to.slots * to.buffer.rows;
    if (table.slots != first.slots || table.device != first.device || to.device != first.device)
      throw std::invalid_argument("Picks: table" + at + ": got other entries or another device");
    if (to.buffer.row_bytes != row || to.slots != 1)
      throw std::invalid_argument("Picks: out" + at + ": got " + std::to_string(to.slots) +
                                  " entries of rows of " + std::to_string(to.buffer.row_bytes) +
                                  " bytes, allowed 1 of " + std::to_string(row));
    out.push_back({table.buffer.data, to.buffer.data, table.buffer.rows * row, first_rows[i] * row,
                   taken * row});
  }
  return Picks(std::move(out), first.slots, first.device);
}

void init_picks(OwnedPicks* self, std::vector<Array> tables, std::vector<Array> outs,
                const std::vector<int64_t>& first_rows) {
  Picks picks = view_picks(tables, outs, first_rows);
  new (self) OwnedPicks{std::move(tables), std::move(outs), std::move(picks)};
}

void copy_entry(const OwnedPicks& self, const ConstArray& entry, uintptr_t stream) {
  const Tensor number = to_tensor("Picks: entry", entry);
  nb::gil_scoped_release release;
  self.picks.copy(number, to_stream(stream));
}

// The signatures say Array (arrays.py) where nanobind would say NumPy's untyped NDArray.
constexpr const char* kGuide =
    "def guide(conditional: Array, unconditional: Array | None, guidance: Array, difference: "
    "Array, guided: Array, stream: int = 0, skipping: Array | None = None, skip_guidance: Array | "
    "None = None) -> None";
constexpr const char* kRenormalise =
    "def renormalise(output: Array, guided: Array | None, guidance: Array, token: Array, norms: "
    "Array, factors: Array, stride: int, at_most: bool, pinned: int = 0, stream: int = 0) -> None";
constexpr const char* kDecide =
    "def decide_active(score: Array, velocity: Array, age: Array, future: Array | None, scratch: "
    "Array, active: Array, pinned: int, planned: int, bucket: int, max_age: int, error_budget: "
    "float, gate: float, entry: Array | None = None, head_multiple: int = 1, stream: int = 0) -> "
    "None";
constexpr const char* kCount =
    "def count_broken(values: Array, count: Array, stream: int = 0) -> None";
constexpr const char* kPicks =
    "def __init__(self, tables: Sequence[Array], outs: Sequence[Array], first_rows: Sequence[int]) "
    "-> None";
constexpr const char* kCopy = "def copy(self, entry: Array, stream: int = 0) -> None";

}  // namespace

void register_between(nb::module_& m) {
  m.def("guide", &guide_arrays, nb::sig(kGuide), "conditional"_a, "unconditional"_a.none(),
        "guidance"_a, "difference"_a, "guided"_a, "stream"_a = 0, "skipping"_a = nb::none(),
        "skip_guidance"_a = nb::none(),
        "guided = conditional + (guidance - 1) difference of the head, where the difference is "
        "taken anew if there is an unconditional output; with the output of a branch that skips "
        "layers, + skip_guidance (conditional - skipping) besides; in place.");
  m.def("renormalise", &renormalise_arrays, nb::sig(kRenormalise), "output"_a, "guided"_a.none(),
        "guidance"_a, "token"_a, "norms"_a, "factors"_a, "stride"_a, "at_most"_a, "pinned"_a = 0,
        "stream"_a = 0,
        "Bring the head's guided velocity, (A, B, P) or made of both branches' output (A, 2B, P), "
        "to the norm of the conditional one over all slots, by line of `stride` tokens and group "
        "of values; in place. norms (N, B, K, 2), factors (B, L, K).");
  m.def("decide_active", &decide_arrays, nb::sig(kDecide), "score"_a, "velocity"_a, "age"_a,
        "future"_a.none(), "scratch"_a, "active"_a, "pinned"_a, "planned"_a, "bucket"_a,
        "max_age"_a, "error_budget"_a, "gate"_a, "entry"_a = nb::none(), "head_multiple"_a = 1,
        "stream"_a = 0,
        "Write how many slots the step computes, by error budget and gate; 0: it is left out.");
  m.def("decide_scratch", &decide_scratch, "patches"_a, "samples"_a,
        "Values of the scratch of decide_active.");
  m.def("count_broken", &count_values, nb::sig(kCount), "values"_a, "count"_a, "stream"_a = 0,
        "Add to count (1,) how many of the values are not finite.");
  nb::class_<OwnedPicks>(
      m, "Picks",
      "Tables (E, rows, ...), of whose current entry the rows from the first on are copied to outs "
      "(1, rows taken, ...). Keeps them alive.")
      .def("__init__", &init_picks, nb::sig(kPicks), "tables"_a, "outs"_a, "first_rows"_a)
      .def("copy", &copy_entry, nb::sig(kCopy), "entry"_a, "stream"_a = 0,
           "Copy entry (1,) of every table, or the nearest that there is.");
}

}  // namespace flagdit::python
