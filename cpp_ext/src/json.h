// JSON that somebody else may have written.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace flagdit {

using Json = nlohmann::json;

inline constexpr int kMaxDepth = 64;  // of lists in lists: flagdit's own files have 8

// How deep lists and tables are in each other.
int depth_of(std::string_view content);

// The document. Throws Error(bundle), by the file's name, if it is none or nested too deeply.
Json parse_json(const std::string& name, std::string_view content);

// What an exception of the library says, without its own numbering.
std::string reason(const Json::exception& error);

}  // namespace flagdit
