// The pictures of flagdit_run, one after the other, each written when it is there.
#pragma once

#include <vector>

#include "command.h"
#include "flagdit/pipeline.h"

namespace flagdit {

// Throws Error: of an output that cannot be, before anything is loaded; and as Pipeline does.
void paint(Pipeline& pipeline, const std::vector<Job>& jobs, const Command& command);

}  // namespace flagdit
