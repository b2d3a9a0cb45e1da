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

// The one report that has a name of its own: those of several pictures lie beside them.
void check_report(const Command& command, const std::vector<Job>& jobs) {
  if (command.report.empty() || jobs.size() > 1) return;
  check_file(command.report);
  if (same_file(command.report, command.output))
    throw Error(Fault::output, "--report " + printable(command.report) +
                                   ": is also what -o writes; give each a file of its own");
}

// Under its name, or its next number, with its report; that name.
std::string keep(Names& names, const Generation& generation, const Command& command, bool one) {
  const std::string path = names.take();
  try {
    write_file(path, generation.png());
  } catch (const Error&) {
    names.give_back(path);
    throw;
  }
  if (!command.report.empty())
    write_file(one ? command.report : Names::beside(path, ".json"), generation.report() + "\n");
  return path;
}

}  // namespace

void paint(Pipeline& pipeline, const std::vector<Job>& jobs, const Command& command) {
  Names names(command.output, jobs.size() > 1);
  check_report(command, jobs);
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
    const std::string path = keep(names, generation, command, jobs.size() == 1);
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
