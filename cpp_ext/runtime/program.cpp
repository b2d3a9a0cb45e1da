// flagdit_run: sentences in, pictures out, without Python.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../src/printable.h"
#include "flagdit/error.h"
#include "flagdit/pipeline.h"
#include "names.h"
#include "picture.h"
#include "said.h"
#include "tell.h"
#include "version.h"

namespace flagdit {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostPictures = 10000;  // of one command

// What the command says: options of a request, in JSON, and the rest.
struct Command {
  std::string bundle;
  std::vector<std::string> prompts;
  std::string file, output = "out.png", report;
  int64_t count = 1;
  PipelineOptions pipeline;
  bool plan = false, inspect = false, quiet = false;
  Json request = Json::object();
};

// Such as 512M. Throws Error(request).
int64_t bytes_of(const std::string& text) {
  const size_t end = text.find_first_not_of("0123456789");
  const std::string unit = end == std::string::npos ? "" : text.substr(end, 1);
  const size_t scale = std::string("KMG").find(unit.empty() ? 'B' : unit[0]);
  const bool known = unit.empty() || (scale != std::string::npos &&
                                      (end + 1 == text.size() || text.substr(end + 1) == "B"));
  if (end == 0 || text.empty() || text.size() > 14 || !known) {
    throw Error(Fault::request, "max-memory is " + in_quotes(text) +
                                    "; allowed are bytes, or a number of K, M or G, such as 512M");
  }
  const int64_t number = std::stoll(text.substr(0, end));
  const int shift = unit.empty() ? 0 : 10 * (static_cast<int>(scale) + 1);
  return number > (INT64_MAX >> shift) ? INT64_MAX : number << shift;
}

// An option whose text is an option of the request, of the same name with _ for -.
void add_text(CLI::App& app, Command& command, const std::string& name, const std::string& metavar,
              const std::string& help) {
  std::string key = name;
  std::replace(key.begin(), key.end(), '-', '_');
  app.add_option_function<std::string>(
         "--" + name, [&command, key](const std::string& text) { command.request[key] = text; },
         help)
      ->type_name(metavar);
}

void add_flag(CLI::App& app, Command& command, const std::string& name, const std::string& help) {
  app.add_flag_callback("--" + name, [&command, name] { command.request[name] = true; }, help);
}

void add_sampling(CLI::App& app, Command& command) {
  const auto text = [&](const char* name, const char* metavar, const char* help) {
    add_text(app, command, name, metavar, help);
  };
  text("preset", "NAME",
       "quality, balanced (the default), fast, or another that the bundle was calibrated for");
  text("steps", "N", "Steps from noise to picture; by default the preset's");
  text("shift", "X", "Time shift: above 1, steps are short at the start and long at the end");
  text("times", "0,...,1",
       "The times that the steps lie between, instead of a number of steps and a shift");
  text("solver", "NAME", "euler, ab2, midpoint or heun");
  text("size", "WxH", "In pixels; the model's own by default");
  text("seed", "N|random", "The same seed gives the same picture; 0 to 2^64 - 1");
  text("guidance", "X", "How strictly to follow the prompt; 1 turns it off");
  text("negative", "TEXT", "What the picture should not show");
  text("ratio", "R|FROM:TO", "Share of the picture that a RAS step recomputes");
  text("error-budget", "X",
       "Let steps recompute more, until what is kept is off by no more than this on average");
  text("forecast-kv", "SHARE",
       "Move old keys and values along their line by this share of the way; 0 turns it off");
  text("guidance-every", "K",
       "Run the unconditional branch only in each K-th step after the first half");
  text("guidance-warmup", "STEPS", "With --guidance-every: first steps that run both branches");
  text("coarse", "FACTOR[:STEPS[:UNTIL]]", "Begin with a smaller picture; 1 is none");
  text("mode", "NAME", "corrected, or paper, which does what the published code does");
  text("schedule", "PATCHES/STEPS", "Recompute so many patches fewer every so many steps");
  text("ntk", "auto|FACTOR|off", "For sizes beyond training: multiply RoPE's theta");
  add_flag(app, command, "dense", "Recompute everything in every step");
  add_flag(app, command, "proportional",
           "For sizes beyond training: a softmax that sharpens with the number of tokens");
  app.add_option_function<std::vector<std::string>>(
         "--ras",
         [&command](const std::vector<std::string>& fields) { command.request["ras"] = fields; },
         "Change one more thing of region-adaptive sampling; may be given again (docs/ras.md)")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
}

void add_all(CLI::App& app, Command& command) {
  app.set_version_flag("--version", std::string("flagdit ") + kVersion);
  app.add_option("bundle", command.bundle, "A bundle's directory")->type_name("BUNDLE")->required();
  app.add_option("prompts", command.prompts, "What the picture should show; a picture for each")
      ->type_name("PROMPT");
  app.add_option("-o,--output", command.output,
                 "The PNG to write; several are numbered, where the name has %04d, or in a folder")
      ->type_name("PATH")
      ->capture_default_str();
  app.add_option("--prompts", command.file, "A text file, one prompt a line, # before a comment")
      ->type_name("FILE");
  app.add_option("--count", command.count,
                 "Pictures of each prompt, of the seeds that follow each other")
      ->type_name("N");
  add_sampling(app, command);
  app.add_option("--threads", command.pipeline.threads, "CPU threads; all cores by default")
      ->type_name("N");
  app.add_option("--precision", command.pipeline.precision,
                 "float32, int8 or int8-bf16; the fastest by default")
      ->type_name("NAME");
  app.add_option_function<std::string>(
         "--max-memory",
         [&command](const std::string& text) { command.pipeline.max_memory = bytes_of(text); },
         "Refuse what takes more: bytes, or a number of K, M or G")
      ->type_name("BYTES");
  app.add_option("--onnxruntime", command.pipeline.onnxruntime,
                 "ONNX Runtime's library or the folder that it is in; by default "
                 "$FLAGDIT_ONNXRUNTIME, then the system's")
      ->type_name("PATH");
  app.add_option("--report", command.report, "Write what was planned and measured, as JSON")
      ->type_name("PATH");
  app.add_flag("--plan", command.plan, "Show the steps and what they take, and compute nothing");
  app.add_flag("--inspect", command.inspect,
               "Show what the bundle is, with every byte of it checked");
  app.add_flag("-q,--quiet", command.quiet, "Say nothing but errors");
}

constexpr const char* kMark = "\xEF\xBB\xBF";  // that some editors begin a text with

std::vector<std::string> read_prompts(const std::string& path) {
  std::ifstream file(path);
  if (!file)
    throw Error(
        Fault::request,
        printable(path) + ": there is no such file; give a text file with one prompt a line");
  std::vector<std::string> prompts;
  bool begins = true;
  for (std::string line; std::getline(file, line); begins = false) {
    if (begins && line.rfind(kMark, 0) == 0) line.erase(0, 3);
    const size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos || line[first] == '#') continue;
    prompts.push_back(line.substr(first, line.find_last_not_of(" \t\r") - first + 1));
  }
  if (prompts.empty())
    throw Error(Fault::request, printable(path) + ": holds no prompt; give one a line");
  return prompts;
}

std::vector<std::string> prompts_of(const Command& command) {
  if (command.prompts.empty() == command.file.empty()) {
    throw Error(
        Fault::request,
        "give either prompts or a file of them; for instance: flagdit_run BUNDLE \"a red apple\"");
  }
  return command.file.empty() ? command.prompts : read_prompts(command.file);
}

// One request a picture, so that each is what it is alone.
std::vector<Request> requests_of(const Command& command) {
  const std::vector<std::string> prompts = prompts_of(command);
  const auto pictures = static_cast<int64_t>(prompts.size());
  if (command.count < 1 || command.count > kMostPictures ||
      command.count * pictures > kMostPictures) {
    throw Error(Fault::request, std::to_string(pictures) + " prompts and a count of " +
                                    std::to_string(command.count) + "; allowed are 1 to " +
                                    std::to_string(kMostPictures) + " pictures in all");
  }
  std::vector<Request> requests;
  Json said = command.request;
  said["prompts"] = Json::array();
  for (int64_t i = 0; i < command.count; ++i) said["prompts"].push_back("");
  const Request common = read_request(said);
  for (const std::string& prompt : prompts) {
    for (const uint64_t seed : common.seeds) {
      requests.push_back(common);
      requests.back().prompts = {prompt};
      requests.back().seeds = {seed};
    }
  }
  return requests;
}

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

// What was told has reached where it was told. Throws Error(output) if it has not.
int shown() {
  std::cout.flush();
  if (!std::cout) throw Error(Fault::output, "standard output: cannot be written");
  return 0;
}

int run(const Command& command) {
  Pipeline pipeline(command.bundle, command.pipeline);
  if (command.inspect) {
    pipeline.bundle().check();
    std::cout << tell_bundle(pipeline);
    if (command.prompts.empty() && command.file.empty()) return shown();
  }
  std::vector<Job> jobs;
  for (const Request& request : requests_of(command))
    jobs.push_back(pipeline.plan(request));  // refused now, not later
  if (command.plan) std::cout << tell_plan(pipeline, jobs[0]);
  if (!command.plan && !command.inspect) paint(pipeline, jobs, command);
  return shown();
}

}  // namespace
}  // namespace flagdit

int main(int argc, char** argv) {
  CLI::App app{
      "Pictures from sentences, from a bundle of flagdit, without Python (docs/runtime.md)"};
  flagdit::Command command;
  try {
    flagdit::add_all(app, command);
    app.parse(argc, argv);
    return flagdit::run(command);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "Error: %s\n", error.what());
    return 1;
  }
}
