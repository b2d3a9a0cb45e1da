// Whether this process may use the tile instructions that the fast CPU kernels are written in.
#pragma once

namespace flagdit {

// AMX tiles of int8 and bf16, with AVX-512: Intel Xeons from Sapphire
// Rapids on. Asks the system for leave to use the tiles once; false in a
// build for another processor, and if the environment has FLAGDIT_NO_AMX.
bool has_amx();

}  // namespace flagdit
