#include "port_rules.h"

#include <algorithm>
#include <set>

#include "../printable.h"
#include "check.h"

namespace flagdit::bundle {

std::string axes_text(const Axes& axes) {
  std::string text;
  for (const Axis& axis : axes) text += (text.empty() ? "" : ", ") + printable(to_string(axis));
  return "(" + text + ")";
}

Axes behind(const Axes& axes, const Axes& first) {
  Axes made = first;
  if (!axes.empty()) made.insert(made.end(), axes.begin() + 1, axes.end());
  return made;
}

namespace {

void check_names(const std::string& place, const Ports& expected, const std::vector<Port>& found) {
  std::set<std::string> names, wrong;
  for (const Port& port : found) names.insert(port.name);
  for (const auto& [name, allowed] : expected) {
    if (names.count(name) == 0) wrong.insert(name);
  }
  for (const std::string& name : names) {
    if (expected.count(name) == 0) wrong.insert(name);
  }
  if (!wrong.empty()) {
    const char* what = expected.count(*wrong.begin()) != 0 ? " is missing" : " is none of them";
    refuse(place + ": " + in_quotes(*wrong.begin()) + what);
  }
  if (found.size() > expected.size()) refuse(place + ": names are there twice");
}

}  // namespace

void check_ports(const std::string& place, const std::vector<Port>& said, const Ports& expected) {
  check_names(place, expected, said);
  for (const Port& port : said) {
    const Allowed& allowed = expected.at(port.name);
    const auto has = [](const auto& items, const auto& item) {
      return std::find(items.begin(), items.end(), item) != items.end();
    };
    if (has(allowed.types, port.dtype) && has(allowed.shapes, port.axes)) continue;
    refuse(place + ": " + printable(port.name) + " is " + type_name(port.dtype) + " " +
           axes_text(port.axes) + "; allowed is " + listed(allowed.types, " or ", type_name) + " " +
           listed(allowed.shapes, " or ", axes_text));
  }
}

}  // namespace flagdit::bundle
