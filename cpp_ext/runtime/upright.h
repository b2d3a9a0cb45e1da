// Pictures as they are looked at.
#pragma once

#include <lodepng.h>

#include "picture.h"

namespace flagdit {

// Which way up a PNG's picture is, 1 to 8 (flagdit/orientation.h), as its chunk eXIf says, or where there is
// none its text: what programs wrote before there was that chunk, and XMP. state: of a PNG that was read
// with its unknown chunks.
int orientation_of(const lodepng::State& state);

// The picture the right way up.
Pixels upright(Pixels picture, int orientation);

}  // namespace flagdit
