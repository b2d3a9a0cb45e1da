// What options are called, by users, in reports and in bundles.
#pragma once

#include <optional>
#include <string_view>

#include "flagdit/advance.h"
#include "flagdit/plan.h"
#include "flagdit/solver.h"

namespace flagdit {

const char* name_of(Metric metric);
const char* name_of(Mode mode);
const char* name_of(Solver solver);

// None if nothing is called so.
std::optional<Metric> metric_of(std::string_view name);
std::optional<Mode> mode_of(std::string_view name);
std::optional<Solver> solver_of(std::string_view name);

}  // namespace flagdit
