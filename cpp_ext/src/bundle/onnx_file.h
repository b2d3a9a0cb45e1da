// What an ONNX file refers to outside itself, read from its bytes
// before a runtime sees them: a runtime opens whatever path a graph
// names. Reads only as much of protobuf as that takes (onnx.proto3).
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "flagdit/manifest.h"

namespace flagdit::bundle {

constexpr int64_t kMaxGraphBytes = (int64_t{1} << 31) - 1;  // what protobuf allows of one message

struct External {  // a tensor whose values are in another file
  std::string tensor, location;
  int64_t offset, length;
};

// Throws Error(bundle), by the name of the file, if it is no ONNX file, or if a tensor that is no
// weight of the graph (one of a node, a subgraph, a function) is elsewhere.
std::vector<External> external_tensors(const std::string& file, std::string_view content);

// The names of the files that tensors are in. Throws
// Error(bundle) for one that is not of the bundle.
std::set<std::string> check_external(const std::string& file, const std::vector<External>& tensors,
                                     const std::map<std::string, FileSpec>& files);

}  // namespace flagdit::bundle
