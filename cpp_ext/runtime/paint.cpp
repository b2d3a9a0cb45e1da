#include "paint.h"

#include <cstdio>
#include <string>

#include "../src/printable.h"
#include "flagdit/error.h"
#include "names.h"
#include "picture.h"
#include "tell.h"

namespace flagdit {
namespace {

// Under its name, or its next number, with its report; that name.
std::string keep(Names& names, const Generation& generation) {
  const Files files = names.take();
  try {
    write_file(files.picture, generation.png());
  } catch (const Error&) {
    names.give_back(files);
    throw;
  }
  if (!files.report.empty()) write_file(files.report, generation.report() + "\n");
  return files.picture;
}

}  // namespace

void paint(Pipeline& pipeline, const std::vector<Job>& jobs, const Command& command) {
  Names names(command.output, command.report, jobs.size() > 1);
  pipeline.check_paints();
  pipeline.load();
  for (size_t i = 0; i < jobs.size(); ++i) {
    const std::string label = jobs.size() == 1 ? printable(command.output)
                                               : "picture " + std::to_string(i + 1) + " of " +
                                                     std::to_string(jobs.size());
    if (!command.quiet) {
      std::fprintf(stderr, "%s: memory %s at most\n", label.c_str(),
                   megabytes(pipeline.memory(jobs[i]).total()).c_str());
    }
    Generation generation = pipeline.start(jobs[i], i + 1 == jobs.size());
    double seconds = 0;
    while (!generation.done()) {
      const StepDone& done = generation.step();
      seconds += done.denoise + done.host;
      if (!command.quiet) {
        std::fprintf(stderr, "\r%s: step %lld of %lld", label.c_str(),
                     static_cast<long long>(generation.count()),
                     static_cast<long long>(generation.total()));
      }
    }
    const std::string path = keep(names, generation);
    if (!command.quiet) {
      std::fprintf(
          stderr, "\r%s: %lldx%lld, %lld steps in %.2f s, %s, seed %llu\n", printable(path).c_str(),
          static_cast<long long>(generation.width()), static_cast<long long>(generation.height()),
          static_cast<long long>(generation.total()), seconds, pipeline.precision().c_str(),
          static_cast<unsigned long long>(jobs[i].run.seeds[0]));
    }
  }
}

}  // namespace flagdit
