// That a graph has the inputs and outputs which the manifest says.
#include <algorithm>
#include <set>
#include <string>

#include "../printable.h"
#include "check.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

// An axis that has a size for one has the same for the other: a graph may be frozen to what it was
// traced with.
bool same_axis(const Axis& a, const Axis& b) {
  const bool sized = std::holds_alternative<int64_t>(a) || std::holds_alternative<int64_t>(b);
  return !sized || a == b;
}

std::string type_and_shape(const Port& port) {
  return to_string(port.dtype) + std::string(" ") + printable(to_string(port.axes));
}

void check_ends(const std::string& file, const std::vector<Port>& said,
                const std::vector<Port>& found, bool output) {
  std::set<std::string> names;
  for (const Port& port : found) {
    if (port.output != output) continue;
    const auto known = std::find_if(said.begin(), said.end(), [&](const Port& own) {
      return own.output == output && own.name == port.name;
    });
    if (known == said.end())
      bundle::refuse(file + ": " + in_quotes(port.name) + " is none of them");
    const bool fits =
        port.dtype == known->dtype && port.axes.size() == known->axes.size() &&
        std::equal(port.axes.begin(), port.axes.end(), known->axes.begin(), same_axis);
    if (!fits) {
      bundle::refuse(file + ": " + printable(port.name) + " is " + type_and_shape(port) +
                     "; the manifest says " + type_and_shape(*known) +
                     ", so export the model again");
    }
    names.insert(port.name);
  }
  for (const Port& port : said) {
    if (port.output == output && names.count(port.name) == 0)
      bundle::refuse(file + ": " + in_quotes(port.name) + " is missing");
  }
}

}  // namespace

void check_borders(const std::string& file, const std::vector<Port>& said,
                   const std::vector<Port>& found) {
  check_ends(file, said, found, false);
  check_ends(file, said, found, true);
}

}  // namespace flagdit
