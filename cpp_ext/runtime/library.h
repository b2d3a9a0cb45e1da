// Where the library of ONNX Runtime is.
#pragma once

#include <memory>
#include <string>

#include "flagdit/onnxruntime.h"

namespace flagdit {

// said: its path, or its folder's; empty: $FLAGDIT_ONNXRUNTIME, then what the system finds. Throws
// Error(backend) with what was tried.
std::unique_ptr<OnnxRuntime> find_onnxruntime(const std::string& said);

}  // namespace flagdit
