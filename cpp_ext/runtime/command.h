// What flagdit_run is told: options of a request, in JSON, and the rest.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "flagdit/pipeline.h"

namespace flagdit {

struct Command {
  std::string bundle;
  std::vector<std::string> prompts;
  std::string file, output = "out.png", report;
  int64_t count = 1;
  PipelineOptions pipeline;
  bool plan = false, inspect = false, verify = false, quiet = false;
  nlohmann::ordered_json request = nlohmann::ordered_json::object();
};

// Every option of the program, which writes into the command.
void add_options(CLI::App& app, Command& command);

}  // namespace flagdit
