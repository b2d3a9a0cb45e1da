// Who reads what in an ONNX file.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

namespace flagdit {

// How often each value is an input of a node, by its name; names of subgraphs and functions are
// counted as those of the graph. Throws Error(bundle), by the name of the file, if it is no ONNX
// file.
std::map<std::string, size_t> readers(const std::string& file, std::string_view content);

}  // namespace flagdit
