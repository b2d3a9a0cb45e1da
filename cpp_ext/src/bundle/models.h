// How the model's part of a manifest is read.
#pragma once

#include <vector>

#include "fields.h"
#include "flagdit/manifest.h"

namespace flagdit::bundle {

ModelSpec read_model_spec(const Value& value);
PresetSpec read_preset(const Value& value);
std::vector<Port> read_ports(const Value& value, bool output);

}  // namespace flagdit::bundle
