// What was said of a pipeline, in JSON.
#include <algorithm>
#include <optional>
#include <string>

#include "../src/json.h"
#include "flagdit/error.h"
#include "said.h"

namespace flagdit {
namespace {

template <typename T>
std::optional<T> entry(const nlohmann::ordered_json& table, const char* name) {
  const auto found = table.find(name);
  if (found == table.end() || found->is_null()) return std::nullopt;
  try {
    return found->template get<T>();
  } catch (const Json::exception&) {
    throw Error(Fault::request, std::string("the option ") + name + " is of another type");
  }
}

void check_names(const nlohmann::ordered_json& table) {
  if (!table.is_object()) throw Error(Fault::request, "the options are no table");
  for (const auto& [name, value] : table.items()) {
    const char* known[] = {"threads", "precision",   "max_memory", "device",
                           "backend", "onnxruntime", "tensorrt",   "load"};
    if (std::find(std::begin(known), std::end(known), name) == std::end(known)) {
      throw Error(Fault::request,
                  "there is no such option of a pipeline; allowed are threads, precision, "
                  "max_memory, device, backend, onnxruntime, tensorrt, load");
    }
  }
}

}  // namespace

nlohmann::ordered_json parsed(const std::string& text) {
  if (depth_of(text) > kMaxDepth) {
    throw Error(Fault::request, "the options are nested too deeply");
  }
  try {
    return nlohmann::ordered_json::parse(text);
  } catch (const Json::exception& error) {
    throw Error(Fault::request, std::string("the options are not JSON (") + reason(error) + ")");
  }
}

PipelineSaid read_pipeline(const std::string& text) {
  const nlohmann::ordered_json table = parsed(text);
  check_names(table);
  PipelineOptions options;
  options.threads = entry<int64_t>(table, "threads");
  options.precision = entry<std::string>(table, "precision");
  options.max_memory = entry<int64_t>(table, "max_memory");
  options.device = entry<std::string>(table, "device").value_or(options.device);
  options.backend = entry<std::string>(table, "backend").value_or(options.backend);
  options.onnxruntime = entry<std::string>(table, "onnxruntime").value_or("");
  options.tensorrt = entry<std::string>(table, "tensorrt").value_or("");
  return {options, entry<bool>(table, "load").value_or(true)};
}

}  // namespace flagdit
