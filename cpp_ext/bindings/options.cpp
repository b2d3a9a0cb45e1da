#include "options.h"

#include <nanobind/stl/string.h>

#include <cmath>
#include <optional>

#include "flagdit/error.h"

namespace flagdit::python {
namespace {

std::string written(nb::handle object) { return nb::cast<std::string>(nb::repr(object)); }

// None for one that no double can hold.
std::optional<Number> whole_of(nb::handle object) {
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(object.ptr(), &overflow);
  if (overflow == 0) return Number(static_cast<int64_t>(value));
  Number out(PyLong_AsDouble(object.ptr()));
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return std::nullopt;
  }
  out.whole = true;
  return out;
}

// A float, an int, or what NumPy has for them; not a bool.
std::optional<Number> as_number(nb::handle object) {
  PyObject* const o = object.ptr();
  if (PyFloat_Check(o)) return Number(PyFloat_AS_DOUBLE(o));
  if (PyBool_Check(o)) return std::nullopt;
  if (PyLong_Check(o)) return whole_of(object);
  if (PyUnicode_Check(o) || nb::hasattr(object, "__len__")) return std::nullopt;
  if (PyIndex_Check(o)) return whole_of(nb::steal(PyNumber_Index(o)));
  if (!nb::hasattr(object, "__float__")) return std::nullopt;
  const double value = PyFloat_AsDouble(o);
  if (PyErr_Occurred() == nullptr) return Number(value);
  PyErr_Clear();
  return std::nullopt;
}

bool is_list(nb::handle object) {
  return !nb::isinstance<nb::str>(object) && !nb::isinstance<nb::bytes>(object) &&
         !nb::isinstance<nb::dict>(object) && nb::hasattr(object, "__len__") &&
         nb::hasattr(object, "__getitem__");
}

Value to_list(nb::handle object) {
  std::vector<Number> out;
  for (nb::handle item : nb::iter(object)) {
    const std::optional<Number> number = as_number(item);
    if (!number) return Other{written(object), written(item)};
    out.push_back(*number);
  }
  return out;
}

}  // namespace

Value to_value(nb::handle object) {
  if (object.is_none()) return std::monostate{};
  if (PyBool_Check(object.ptr())) return object.ptr() == Py_True;
  if (nb::isinstance<nb::str>(object)) return to_text(object);
  if (const std::optional<Number> number = as_number(object)) return *number;
  if (is_list(object)) return to_list(object);
  return Other{written(object), ""};
}

nb::object to_python(const Number& number) {
  if (!number.whole) return nb::float_(number.value);
  return nb::steal(PyLong_FromDouble(number.value));
}

nb::object to_python(const Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return nb::bool_(*flag);
  if (const Number* number = std::get_if<Number>(&value)) return to_python(*number);
  if (const auto* text = std::get_if<std::string>(&value)) return nb::cast(*text);
  if (const auto* list = std::get_if<std::vector<Number>>(&value)) {
    nb::list out;
    for (const Number& number : *list) out.append(to_python(number));
    return out;
  }
  return nb::none();
}

Regions to_regions(nb::handle ras) {
  Regions out;
  for (const std::string& name : field_names()) {
    set_field(out, name, to_value(nb::getattr(ras, name.c_str())));
  }
  return out;
}

nb::dict to_fields(const Regions& regions) {
  nb::dict out;
  for (const std::string& name : field_names()) {
    out[name.c_str()] = to_python(field_of(regions, name));
  }
  const nb::object resets = out["resets"];
  if (!resets.is_none()) out["resets"] = nb::tuple(nb::borrow<nb::list>(resets));
  return out;
}

Changes to_changes(nb::handle mapping) {
  Changes out;
  for (nb::handle item : nb::iter(mapping.attr("items")())) {
    out.emplace_back(nb::cast<std::string>(item[0]), to_value(item[1]));
  }
  return out;
}

Number to_number(const char* name, nb::handle object) {
  const Value value = to_value(object);
  if (const Number* number = std::get_if<Number>(&value)) return *number;
  if (const bool* flag = std::get_if<bool>(&value)) return Number(*flag ? 1 : 0);
  throw Error(Fault::request, name + (" is " + written(object)) + "; allowed are numbers");
}

Steps to_steps(nb::handle object) {
  const Value value = to_value(object);
  if (const auto* list = std::get_if<std::vector<Number>>(&value)) {
    return std::vector<double>(list->begin(), list->end());
  }
  const Number* number = std::get_if<Number>(&value);
  if (number != nullptr && number->whole && std::abs(number->value) < 1e18) {
    return static_cast<int64_t>(number->value);
  }
  const Other* other = std::get_if<Other>(&value);
  if (other != nullptr && !other->item.empty()) {
    throw Error(Fault::request, "a time is " + other->item + "; allowed are numbers");
  }
  throw Error(Fault::request, "steps is " + written(object) + "; allowed are 1 to " +
                                  std::to_string(kMaxSteps) +
                                  ", or the times that they lie between");
}

nb::object to_python(const Steps& steps) {
  if (const int64_t* count = std::get_if<int64_t>(&steps)) return nb::int_(*count);
  nb::list out;
  for (double time : std::get<std::vector<double>>(steps)) out.append(nb::float_(time));
  return nb::tuple(out);
}

std::vector<Weights> to_weights(nb::handle sequence) {
  std::vector<Weights> out;
  for (nb::handle step : nb::iter(sequence)) {
    const Value value = to_value(step);
    const auto* three = std::get_if<std::vector<Number>>(&value);
    if (three == nullptr || three->size() != 3) {
      throw Error(Fault::request,
                  "the weights of a step are " + written(step) + "; allowed are three numbers");
    }
    out.push_back({(*three)[0], (*three)[1], (*three)[2]});
  }
  return out;
}

}  // namespace flagdit::python
