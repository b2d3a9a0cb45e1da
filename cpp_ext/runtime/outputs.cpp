#include "outputs.h"

#include <sys/stat.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

#include "../src/printable.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

// Where a path's name is, whatever a link of that name says.
std::string entry_of(const std::string& path) {
  char resolved[PATH_MAX];
  const std::string folder = folder_of(path);
  const char* real = ::realpath(folder.c_str(), resolved);
  return (real == nullptr ? folder : real) + ("/" + path.substr(path.find_last_of('/') + 1));
}

bool same_file(const std::string& one, const std::string& other) {
  if (entry_of(one) == entry_of(other)) return true;
  struct stat first{}, second{};
  return ::stat(one.c_str(), &first) == 0 && ::stat(other.c_str(), &second) == 0 &&
         first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

}  // namespace

bool is_folder(const std::string& path) {
  struct stat about{};
  return ::stat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

void check_file(const std::string& path) {
  if (!is_folder(folder_of(path)))
    throw Error(Fault::output, printable(path) + ": there is no such folder; make it first");
  if (is_folder(path))
    throw Error(Fault::output, printable(path) + ": is a folder; give the name of a file");
}

void check_apart(const std::string& picture, const std::string& report) {
  if (same_file(picture, report))
    throw Error(Fault::output, "--report " + printable(report) +
                                   ": is also what -o writes; give each a file of its own");
}

}  // namespace flagdit
