#include "flagdit/in_turn.h"

#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sessions.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

// Threads of the core may call it, and let go of it.
InTurn::Open opener(nb::object open) {
  auto* const own = new nb::object(std::move(open));
  const std::shared_ptr<nb::object> kept(own, [](nb::object* held) {
    const nb::gil_scoped_acquire lock;
    delete held;
  });
  return [kept] {
    const nb::gil_scoped_acquire lock;
    return nb::cast<std::shared_ptr<Session>>((*kept)());
  };
}

}  // namespace

void register_in_turn(nb::module_& m) {
  m.attr("LOADED_IN_TURN") = kLoadedInTurn;
  m.def(
      "encoder_bytes", &encoder_bytes, "dtype"_a, "stored"_a,
      "About what a text encoder takes while it is loaded, by what its matrices are stored in and "
      "the bytes of its files.");
  nb::class_<InTurn, Session>(
      m, "InTurn", "A graph that is loaded when it runs, and let go when it rests: a text encoder.")
      .def(
          "__init__",
          [](InTurn* self, const std::string& name, std::vector<Port> ports, nb::object open) {
            new (self) InTurn(name, std::move(ports), opener(std::move(open)));
          },
          "name"_a, "ports"_a, "open"_a,
          nb::sig("def __init__(self, name: str, ports: Sequence[Port], open: Callable[[], "
                  "Session]) -> None"))
      .def_prop_ro("loaded", &InTurn::loaded)
      .def("rest", &InTurn::rest, nb::call_guard<nb::gil_scoped_release>(),
           "Let go of the graph, once no other thread runs it.");
}

}  // namespace flagdit::python
