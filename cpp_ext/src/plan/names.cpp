#include "flagdit/names.h"

#include <array>
#include <cstddef>

namespace flagdit {
namespace {

// In the order of the enumerations.
constexpr std::array kMetrics{"std", "l2", "change"};
constexpr std::array kModes{"corrected", "paper"};
constexpr std::array kSolvers{"euler", "midpoint", "heun", "ab2"};

template <typename E, size_t n>
std::optional<E> find(const std::array<const char*, n>& names, std::string_view name) {
  for (size_t i = 0; i < n; ++i) {
    if (name == names[i]) return static_cast<E>(i);
  }
  return std::nullopt;
}

}  // namespace

const char* name_of(Metric metric) { return kMetrics.at(static_cast<size_t>(metric)); }
const char* name_of(Mode mode) { return kModes.at(static_cast<size_t>(mode)); }
const char* name_of(Solver solver) { return kSolvers.at(static_cast<size_t>(solver)); }

std::optional<Metric> metric_of(std::string_view name) { return find<Metric>(kMetrics, name); }
std::optional<Mode> mode_of(std::string_view name) { return find<Mode>(kModes, name); }
std::optional<Solver> solver_of(std::string_view name) { return find<Solver>(kSolvers, name); }

}  // namespace flagdit
