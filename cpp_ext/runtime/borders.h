// That a graph has the inputs and outputs which the manifest says.
#pragma once

#include "flagdit/manifest.h"
#include "flagdit/session.h"

namespace flagdit {

// Throws Error(bundle), by the name of the graph's file.
void check_borders(const GraphSpec& said, const Session& found);

}  // namespace flagdit
