// What flagdit_run tells of a bundle and of a plan, in text for people.
#pragma once

#include <string>

#include "flagdit/pipeline.h"

namespace flagdit {

std::string tell_bundle(const Pipeline& pipeline);
std::string tell_plan(const Pipeline& pipeline, const Job& job);
std::string megabytes(int64_t bytes);

}  // namespace flagdit
