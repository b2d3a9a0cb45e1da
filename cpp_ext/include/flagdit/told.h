// What a run did, as data: report.json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "flagdit/job.h"
#include "flagdit/model.h"
#include "flagdit/run.h"
#include "flagdit/session.h"

namespace flagdit {

// Where a run comes from.
struct Origin {
  std::string model, digest;       // the model's name, and the SHA-256 of its weights
  std::string bundle;              // the name that it was loaded by, without its folders
  std::string backend, precision;  // of `denoise`
  std::string gpu{};               // that it runs on, by name; empty on a CPU
  std::string space;               // that the model ends in: pixels, or latents of a VAE
  Model numbers;
  int64_t value_bytes = 4;  // of a cached value
};

// What there is to tell of a run.
struct Told {
  const Origin& origin;
  const Job& job;
  const Run& run;
  const std::vector<StepDone>& steps;
  const std::vector<size_t>& legs;  // that each step was of
  double decode = 0.0;              // seconds from the last step to the picture
  bool said = true;                 // by options; else every part was given by itself
};

// The backend, the precision and the size of a cached value of a session.
void set_engine(Origin& origin, const Session& denoise);

// In JSON: what was asked for, planned and measured.
std::string report_of(const Told& told);

}  // namespace flagdit
