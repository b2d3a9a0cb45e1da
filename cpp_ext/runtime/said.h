// What a user says of a run, in JSON or as options of a command: one reading of both.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "flagdit/pipeline.h"
#include "flagdit/request.h"

namespace flagdit {

// A request from a table of the options of `flagdit generate`, with _ for - in their names: prompt
// or prompts, negative, seed (a number or "random") or seeds, size ("WxH" or [W, H]), guidance,
// skip_layer_guidance (a number, or "SCALE[:START[:STOP[:LAYERS]]]"), preset, steps, times, shift, solver, ratio (a number, "FROM:TO" or [FROM, TO]), dense, mode,
// schedule ("PATCHES/STEPS"), error_budget, forecast_kv, guidance_every, guidance_warmup, coarse
// ("FACTOR:STEPS:UNTIL:SHIFT:END"), ras (a table, or a list of "KEY=VALUE"), ntk ("auto", "off" or
// a factor), proportional, image and mask (paths of PNG), strength, tile (pixels, "off" or "auto"). What is null is not said. Throws Error(request) for a name that is none
// of them, and for what cannot be read; of bounds the plan knows.
Request read_request(const nlohmann::ordered_json& said);

// The JSON of a text. Throws Error(request) if it is none, or nested too deeply.
nlohmann::ordered_json parsed(const std::string& text);

// What was said of a pipeline.
struct PipelineSaid {
  PipelineOptions options;
  bool load = true;  // now, and not by the first run
};

// From a table with threads, precision, max_memory, onnxruntime, load. Throws Error(request) for any
// other name, and a value of another type.
PipelineSaid read_pipeline(const std::string& text);

// Parts of a request.
Coarse read_coarse(const std::string& text);
std::optional<SkipLayerGuidance> read_skips(const std::string& text);  // none of a scale of 0
Value read_value(const std::string& text);
Number read_number(const std::string& what, const std::string& text);
std::vector<std::string> split(const std::string& text, char at);

}  // namespace flagdit
