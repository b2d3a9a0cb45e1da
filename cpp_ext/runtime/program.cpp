// flagdit_run: sentences in, pictures out, without Python.
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "../src/printable.h"
#include "command.h"
#include "flagdit/error.h"
#include "paint.h"
#include "said.h"
#include "tell.h"

namespace flagdit {
namespace {

constexpr int64_t kMostPictures = 10000;  // of one command

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
  nlohmann::ordered_json said = command.request;
  said["prompts"] = nlohmann::ordered_json::array();
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

// What was told has reached where it was told. Throws Error(output) if it has not.
int shown() {
  std::cout.flush();
  if (!std::cout) throw Error(Fault::output, "standard output: cannot be written");
  return 0;
}

// Of its files, and nothing else. Whether they are what it says.
int verify(const Command& command) {
  const bool tells = !command.quiet && ::isatty(STDERR_FILENO) != 0;
  const auto told = [&](int64_t done, int64_t whole) {
    if (tells)
      std::fprintf(stderr, "\r%s of %s", megabytes(done).c_str(), megabytes(whole).c_str());
  };
  const std::vector<std::string> faults = Bundle::verify(command.bundle, told);
  if (tells) std::fprintf(stderr, "\n");
  for (const std::string& fault : faults) std::fprintf(stderr, "Error: %s\n", fault.c_str());
  if (!faults.empty()) return 1;
  if (!command.quiet) std::cout << "every byte is what the manifest says\n";
  return shown();
}

int run(const Command& command) {
  if (command.verify) return verify(command);
  Pipeline pipeline(command.bundle, command.pipeline);
  if (command.inspect) {
    const size_t known = pipeline.bundle().check();
    std::cout << tell_bundle(pipeline);
    if (known > 0)
      std::cout
          << "intact     large files are as they were when they were read last; --verify reads "
             "all\n";
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
    flagdit::add_options(app, command);
    app.parse(argc, argv);
    return flagdit::run(command);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "Error: %s\n", error.what());
    return 1;
  }
}
