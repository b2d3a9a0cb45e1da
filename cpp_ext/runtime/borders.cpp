#include "borders.h"

#include <algorithm>
#include <set>
#include <string>

#include "../src/printable.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

// An axis that has a size for one has the same for the other: a graph may be frozen to what it was
// traced with.
bool same(const Axis& a, const Axis& b) {
  const bool sized = std::holds_alternative<int64_t>(a) || std::holds_alternative<int64_t>(b);
  return !sized || a == b;
}

void check(const std::string& file, const std::vector<Port>& said, const std::vector<Port>& found) {
  std::set<std::string> names;
  for (const Port& port : found) {
    const auto known = std::find_if(said.begin(), said.end(),
                                    [&](const Port& own) { return own.name == port.name; });
    if (known == said.end())
      throw Error(Fault::bundle, file + ": " + in_quotes(port.name) + " is none of them");
    const bool fits = port.dtype == known->dtype && port.axes.size() == known->axes.size() &&
                      std::equal(port.axes.begin(), port.axes.end(), known->axes.begin(), same);
    if (!fits) {
      throw Error(
          Fault::bundle,
          file + ": " + printable(port.name) + " is " + printable(to_string(port.axes)) +
              ", of another type or shape than the manifest says, so export the model again");
    }
    names.insert(port.name);
  }
  for (const Port& port : said) {
    if (names.count(port.name) == 0) {
      throw Error(Fault::bundle, file + ": " + in_quotes(port.name) + " is missing");
    }
  }
}

}  // namespace

void check_borders(const GraphSpec& said, const Session& found) {
  std::vector<Port> inputs, outputs;
  for (const Port& port : found.ports()) (port.output ? outputs : inputs).push_back(port);
  check(said.file, said.inputs, inputs);
  check(said.file, said.outputs, outputs);
}

}  // namespace flagdit
