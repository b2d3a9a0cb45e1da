// Which way up a picture is.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flagdit {

// What a camera says of it, 1 (as it is) to 8, as Exif numbers them (CIPA DC-008, tag 274): 2 is
// mirrored, 3 upside down, 4 both, and 5 to 8 are the same of a picture whose lines are columns.
//
// exif: a directory of tags as TIFF has it, with or without its name before it; somebody else's
// bytes. 0 where they do not say, or are damaged.
int orientation_of(const uint8_t* exif, size_t size);

}  // namespace flagdit
