// What ports of a graph may be, and who says of one that is otherwise.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "flagdit/session.h"

namespace flagdit::bundle {

using Axes = std::vector<Axis>;

// Types and shapes that a port may have.
struct Allowed {
  std::vector<DType> types;
  std::vector<Axes> shapes;
};
using Ports = std::map<std::string, Allowed>;

inline std::string type_name(DType type) { return to_string(type); }
inline Axis letter(const char* name) { return std::string(name); }
inline bool is_letter(const Axis& axis) { return std::holds_alternative<std::string>(axis); }

std::string axes_text(const Axes& axes);

// Items in words, with something between them.
template <typename Items, typename Text>
std::string listed(const Items& items, const char* between, Text text) {
  std::string made;
  for (const auto& item : items) made += (made.empty() ? "" : between) + std::string(text(item));
  return made;
}

// The axes with others in the place of the first.
Axes behind(const Axes& axes, const Axes& first);

// That the ports are those that are expected, each once. Throws Error(bundle).
void check_ports(const std::string& place, const std::vector<Port>& said, const Ports& expected);

}  // namespace flagdit::bundle
