// What a run did, as data: the same as report.json of Python (engine/report.py).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "flagdit/job.h"
#include "flagdit/run.h"
#include "origin.h"

namespace flagdit {

using Ordered = nlohmann::ordered_json;

// What there is to tell of a run.
struct Told {
  const Origin& origin;
  const Job& job;
  const Run& run;
  const std::vector<StepDone>& steps;
  const std::vector<size_t>& legs;  // that each step was of
};

// How a picture was made: all that it takes to make it again.
Ordered about_of(const Told& told, int64_t sample);
// Of all pictures, and what it took.
Ordered report_of(const Told& told);

// The prompts and a line of names and values, as Stable Diffusion web UI writes and reads them.
std::string parameters(const Ordered& about);

// What was said, as Python's resolve.Options has it.
Ordered options_of(const Options& options);
Ordered coarse_of(const std::optional<Coarse>& coarse);
Ordered regions_of(const Regions& regions, bool resolved);

}  // namespace flagdit
