// A request as a model will serve it, with nothing left open: all of a run but its tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "flagdit/memory.h"
#include "flagdit/model.h"
#include "flagdit/request.h"
#include "flagdit/run.h"

namespace flagdit {

struct Job {
  Request request;
  Sampling sampling;
  RunOptions run;  // its legs are planned

  // Factor on theta at the full size.
  double ntk() const { return run.legs.back().placing.ntk; }
};

// Checked and planned. Throws Error if options contradict each other, or one is out of bounds.
// Prompts are checked where they are cut into tokens: check_prompt, check_tokens.
Job resolve(const Request& request, const Model& model);
// The same of a request that is sampled so, whatever its options.
Job job_of(const Request& request, const Sampling& sampling, const Model& model);

// Throws Error if the text is to rest in steps of a plan, and the model's cannot.
void check_rest(const Plan& plan, const Model& model);

// Where a job is to run.
struct Place {
  std::string precision = "float32";  // of the engine
  std::optional<int64_t> room;        // bytes that the process may hold; none is not known
  int64_t loaded = 0;                 // that it held when it had loaded the engine, 0 before
  Machine machine{};
};

// What it takes of memory there.
Memory memory(const Job& job, const Model& model, const Place& place);
// Takes tiles to decode in where the whole does not fit, unless tiles were said. Throws Error if a job
// needs more memory than there is.
void admit(Job& job, const Model& model, const Place& place);

}  // namespace flagdit
