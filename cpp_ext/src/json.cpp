#include "json.h"

#include <algorithm>

#include "flagdit/error.h"
#include "printable.h"

namespace flagdit {

// Of lists and tables in each other. The library's own way to ask, a callback, takes a time that
// grows with the square of a list.
int depth_of(std::string_view content) {
  int depth = 0, most = 0;
  bool text = false;
  for (size_t i = 0; i < content.size(); ++i) {
    const char c = content[i];
    if (text && c == '\\') {
      ++i;
    } else if (c == '"') {
      text = !text;
    } else if (!text && (c == '[' || c == '{')) {
      most = std::max(most, ++depth);
    } else if (!text && (c == ']' || c == '}')) {
      --depth;
    }
  }
  return most;
}

std::string reason(const Json::exception& error) {
  const std::string text = error.what();
  const size_t at = text.find("] ");
  return shortened(at == std::string::npos ? text : text.substr(at + 2));
}

Json parse_json(const std::string& name, std::string_view content) {
  if (depth_of(content) > kMaxDepth) {
    throw Error(Fault::bundle, name + ": nested too deeply; rebuild the bundle");
  }
  // The library takes it for the end, and what follows for nothing.
  if (content.find('\0') != std::string_view::npos)
    throw Error(Fault::bundle, name + ": not JSON (it holds a null byte); rebuild the bundle");
  try {
    return Json::parse(content);
  } catch (const Json::exception& error) {
    throw Error(Fault::bundle, name + ": not JSON (" + reason(error) + "); rebuild the bundle");
  }
}

}  // namespace flagdit
