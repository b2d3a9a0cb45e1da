// Parts of a report, and what a picture says of itself.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "flagdit/told.h"

namespace flagdit {

using Ordered = nlohmann::ordered_json;

// How a picture was made: all that it takes to make it again. sample: -1 is all of them.
Ordered about_of(const Told& told, int64_t sample);

// The prompts and a line of names and values, as Stable Diffusion web UI writes and reads them.
std::string parameters(const Ordered& about);

// What was said, as Python's resolve.Options has it.
Ordered options_of(const Options& options);
Ordered coarse_of(const std::optional<Coarse>& coarse);
Ordered regions_of(const Regions& regions, bool resolved);

}  // namespace flagdit
