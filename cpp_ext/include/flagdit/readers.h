// Who reads what in an ONNX file.
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace flagdit {

// Values that are an input of a node once, which is of `domain`. An input of any other node is not
// among them: ONNX Runtime drops Identity and its like, and what read their output reads the input
// then. Names of subgraphs are counted as those of the graph. A function of the file is put where it
// is called, and may read an argument more than once: of a file that has one, no value is read once.
// Throws Error(bundle), by the name of the file, if it is no ONNX file.
std::set<std::string> read_once(const std::string& file, std::string_view content,
                                std::string_view domain);

}  // namespace flagdit
