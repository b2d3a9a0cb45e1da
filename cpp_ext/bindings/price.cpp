// What a plan costs, and what memory it takes and finds.
#include "flagdit/price.h"

#include <nanobind/operators.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "flagdit/memory.h"
#include "flagdit/room.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

void register_sizes(nb::module_& m) {
  nb::class_<Price>(m, "Price",
                    "FLOPs of a row of one evaluation that computes A of N tokens beside T of a "
                    "text: A token + A (N + T) pair + T text + T (N + T) text_pair.")
      .def(
          "__init__",
          [](Price* self, double token, double pair, double text, double text_pair) {
            new (self) Price{token, pair, text, text_pair};
          },
          nb::kw_only(), "token"_a = 0.0, "pair"_a = 0.0, "text"_a = 0.0, "text_pair"_a = 0.0)
      .def_ro("token", &Price::token)
      .def_ro("pair", &Price::pair)
      .def_ro("text", &Price::text)
      .def_ro("text_pair", &Price::text_pair);
  nb::class_<Sizes>(m, "Sizes", "Numbers of a model that prices and memory are made of (price.h).")
      .def(
          "__init__",
          [](Sizes* self, const Price& price, int64_t parameters, int64_t width, int64_t hidden,
             int64_t heads, int64_t keys, int64_t patch, int64_t place, int64_t cached,
             int64_t text, int64_t text_cached, int64_t text_values, int64_t step_values) {
            new (self) Sizes{price, parameters, width, hidden,      heads,       keys,       patch,
                             place, cached,     text,  text_cached, text_values, step_values};
          },
          nb::kw_only(), "price"_a, "parameters"_a = 0, "width"_a = 0, "hidden"_a = 0,
          "heads"_a = 0, "keys"_a = 0, "patch"_a = 0, "place"_a = 0, "cached"_a = 0, "text"_a = 0,
          "text_cached"_a = 0, "text_values"_a = 0, "step_values"_a = 0)
      .def_ro("price", &Sizes::price)
      .def_ro("parameters", &Sizes::parameters)
      .def_ro("width", &Sizes::width)
      .def_ro("hidden", &Sizes::hidden)
      .def_ro("heads", &Sizes::heads)
      .def_ro("keys", &Sizes::keys)
      .def_ro("patch", &Sizes::patch)
      .def_ro("place", &Sizes::place)
      .def_ro("cached", &Sizes::cached)
      .def_ro("text", &Sizes::text)
      .def_ro("text_cached", &Sizes::text_cached)
      .def_ro("text_values", &Sizes::text_values)
      .def_ro("step_values", &Sizes::step_values);
}

Cost price_of(const Sizes& sizes, const Plan& plan, int64_t samples, int64_t branches, int64_t text,
              int64_t value_bytes,
              const std::optional<std::vector<std::pair<int64_t, int64_t>>>& taken) {
  std::optional<std::vector<Taken>> computed;
  if (taken) computed.emplace();
  if (taken) {
    for (const auto& [active, run] : *taken) computed->push_back({active, run});
  }
  return price(sizes, plan, {samples, branches, text, value_bytes}, computed);
}

void register_cost(nb::module_& m) {
  nb::class_<Cost>(m, "Cost", "Price of a plan for one model.")
      .def_ro("flops", &Cost::flops, "Of every evaluation.")
      .def_ro("dense_flops", &Cost::dense_flops, "Of a dense one at the full size.")
      .def_ro("cache_bytes", &Cost::cache_bytes)
      .def_prop_ro("total", &Cost::total, "FLOPs of all evaluations.")
      .def_prop_ro("flop_ratio", &Cost::flop_ratio,
                   "FLOPs of the plan over those of as many dense evaluations: of dense sampling "
                   "with the same solver.")
      .def_prop_ro(
          "expected_speedup", &Cost::expected_speedup,
          "What the plan gains if time follows FLOPs: the bound a run is measured against.")
      .def("after", &Cost::after, "coarse"_a,
           "This one's and that of the coarse steps before it, whose caches are gone by then.")
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object, /) -> bool"));
  m.def("step_flops", &step_flops, "price"_a, "active"_a, "tokens"_a, "rows"_a, "text"_a,
        "rests"_a = false,
        "FLOPs (2 per multiply-add) of one evaluation: `active` queries over `tokens` keys and "
        "`text` text keys; a text that rests is attended to, and not computed.");
  m.def("price", &price_of, "sizes"_a, "plan"_a, "samples"_a = 1, "branches"_a = 2, "text"_a = 32,
        "value_bytes"_a = 4, "taken"_a = nb::none(),
        "Price a plan; `text` is the number of text tokens, `value_bytes` the size of a cached "
        "value. taken: tokens and branches that each step computed, where a run may differ from "
        "its plan.");
}

nb::dict parts_of(const Memory& memory) {
  nb::dict out;
  out["program"] = memory.program;
  out["weights"] = memory.weights;
  out["caches"] = memory.caches;
  out["state"] = memory.state;
  out["conditions"] = memory.conditions;
  out["activations"] = memory.activations;
  out["scores"] = memory.scores;
  out["decode"] = memory.decode;
  return out;
}

void register_memory(nb::module_& m) {
  m.attr("PROGRAM_BYTES") = kProgramBytes;
  m.attr("WHOLE_SCORES") = kWholeScores;
  m.attr("SCORE_BLOCK") = kScoreBlock;
  nb::class_<Memory>(m, "Memory", "Bytes that a process holds when a run takes most.")
      .def_ro("program", &Memory::program, "Python, its libraries, the text encoder.")
      .def_ro("weights", &Memory::weights)
      .def_ro("caches", &Memory::caches,
              "What the plan keeps of tokens: keys, values, velocities (Cost.cache_bytes).")
      .def_ro("state", &Memory::state, "What else it keeps of them.")
      .def_ro("conditions", &Memory::conditions,
              "Keys and values of the text, modulations of all evaluations.")
      .def_ro("activations", &Memory::activations, "Of one layer.")
      .def_ro("scores", &Memory::scores, "Of attention.")
      .def_ro("decode", &Memory::decode, "Of a picture, when those two are gone.")
      .def_prop_ro("total", &Memory::total, "All of it.")
      .def("parts", &parts_of, nb::sig("def parts(self) -> dict[str, int]"),
           "All but the total, by name.")
      .def("after", &Memory::after, "loaded"_a,
           "All of it where a process that holds so much has loaded the engine already.");
  m.def(
      "memory",
      [](const Sizes& sizes, const std::vector<const Plan*>& plans, const std::string& precision,
         int64_t samples, int64_t branches, int64_t threads, int64_t decode) {
        Memory out = memory(sizes, plans, precision, {samples, branches}, {threads});
        out.decode = decode;
        return out;
      },
      "sizes"_a, "plans"_a, "precision"_a, "samples"_a = 1, "branches"_a = 2, "threads"_a = 1,
      "decode"_a = 0,
      "What a run of these plans one after the other takes in an engine of that precision; of all "
      "it says the largest.");
  m.def("check_memory", &check_memory, "needs"_a, "present"_a.none(), "samples"_a, "what"_a,
        "less"_a = "",
        nb::sig("def check_memory(needs: Callable[[int], int], present: int | None, samples: int, "
                "what: str, less: str = '') -> None"),
        "Refuse a run that needs more than `present` bytes, with what would fit; None is not "
        "known.");
}

void register_room(nb::module_& m) {
  m.def(
      "room", [] { return room(); },
      "Bytes that this process could hold in all, those that it holds already among them; None if "
      "nobody says.");
  m.def(
      "room",
      [](std::string proc, std::string cgroups, std::optional<int64_t> memory,
         std::optional<int64_t> address_space) {
        return room({std::move(proc), std::move(cgroups), memory, address_space});
      },
      "proc"_a, "cgroups"_a, nb::kw_only(), "memory"_a = nb::none(), "address_space"_a = nb::none(),
      "Of a system whose files are there.");
  m.def("resident", &resident, "proc"_a = "/proc",
        "Bytes that this process holds; 0 if nobody says.");
}

}  // namespace

void register_price(nb::module_& m) {
  register_sizes(m);
  register_cost(m);
  register_memory(m);
  register_room(m);
}

}  // namespace flagdit::python
