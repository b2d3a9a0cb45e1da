#include "json.h"

#include "flagdit/error.h"
#include "printable.h"

namespace flagdit {

std::string reason(const Json::exception& error) {
  const std::string text = error.what();
  const size_t at = text.find("] ");
  return printable(at == std::string::npos ? text : text.substr(at + 2));
}

Json parse_json(const std::string& name, std::string_view content) {
  const auto shallow = [&](int depth, Json::parse_event_t, const Json&) {
    if (depth > kMaxDepth) {
      throw Error(Fault::bundle, name + ": nested too deeply; rebuild the bundle");
    }
    return true;
  };
  try {
    return Json::parse(content, shallow);
  } catch (const Json::exception& error) {
    throw Error(Fault::bundle, name + ": not JSON (" + reason(error) + "); rebuild the bundle");
  }
}

}  // namespace flagdit
