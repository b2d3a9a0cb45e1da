// Errors of the core in Python: each kind is raised as the class that the caller has for it.
#include <nanobind/stl/string.h>

#include <exception>
#include <string>

#include "arrays.h"
#include "flagdit/error.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

const char* name_of(Fault fault) {
  switch (fault) {
    case Fault::request:
      return "request";
    case Fault::bundle:
      return "bundle";
    case Fault::backend:
      return "backend";
    case Fault::number:
      return "number";
    case Fault::output:
      return "output";
  }
  return "";
}

// The module, which keeps the classes: as long as there is Python.
PyObject* module = nullptr;

void translate(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& known) {
    nb::object kind =
        nb::getattr(nb::handle(module), "_raised_as").attr("get")(name_of(known.fault));
    const std::string text = known.what();
    const nb::object shown = nb::steal(PyUnicode_DecodeUTF8(
        text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace"));
    PyErr_SetObject(kind.is_none() ? PyExc_RuntimeError : kind.ptr(), shown.ptr());
  }
}

}  // namespace

void register_errors(nb::module_& m) {
  module = m.ptr();
  m.attr("_raised_as") = nb::dict();
  nb::register_exception_translator(&translate);
  m.def(
      "raise_as",
      [](const nb::dict& classes) {
        nb::getattr(nb::handle(module), "_raised_as").attr("update")(classes);
      },
      "classes"_a, nb::sig("def raise_as(classes: dict[str, type[Exception]]) -> None"),
      "Which class an error of the core is raised as, by its fault: request, bundle, backend, "
      "number, "
      "output; RuntimeError where there is none.");
}

}  // namespace flagdit::python
