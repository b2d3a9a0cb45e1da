// What docs/contract.md asks of a model: that its numbers and what it says of its graphs are one.
#pragma once

#include <string>

#include "flagdit/error.h"
#include "flagdit/manifest.h"

namespace flagdit::bundle {

// Throws Error(bundle) if a specification contradicts itself, or says what no run can do yet.
void check_model(const std::string& path, const ModelSpec& model);

// Without the file's path.
void check_known(const ModelSpec& model);
void check_graphs(const ModelSpec& model);
void check_presets(const ModelSpec& model);

[[noreturn]] inline void refuse(const std::string& text) { throw Error(Fault::bundle, text); }

}  // namespace flagdit::bundle
