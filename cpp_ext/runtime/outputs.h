// Where files can be written.
#pragma once

#include <string>

namespace flagdit {

bool is_folder(const std::string& path);
// That a path lies in.
std::string folder_of(const std::string& path);

// Throws Error(output) for a file that cannot be written, since its folder is not there, or it is a
// folder itself.
void check_file(const std::string& path);
// Throws Error(output) if a picture and its report are one file, now or once they are written.
void check_apart(const std::string& picture, const std::string& report);

}  // namespace flagdit
