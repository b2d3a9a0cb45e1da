#include "names.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../src/printable.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

bool is_folder(const std::string& path) {
  struct stat about{};
  return ::stat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

// Where a path's name is, whatever a link of that name says.
std::string entry_of(const std::string& path) {
  char resolved[PATH_MAX];
  const std::string folder = folder_of(path);
  const char* real = ::realpath(folder.c_str(), resolved);
  return (real == nullptr ? folder : real) + ("/" + path.substr(path.find_last_of('/') + 1));
}

bool ends(const std::string& text, const std::string& ending) {
  return text.size() >= ending.size() &&
         text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

// The highest number among the names in a folder that begin and end so.
int64_t highest(const std::string& folder, const std::string& before, const std::string& after) {
  int64_t most = 0;
  DIR* directory = ::opendir(folder.c_str());
  if (directory == nullptr) return most;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name.size() <= before.size() + after.size() || name.rfind(before, 0) != 0 ||
        !ends(name, after))
      continue;
    const std::string digits =
        name.substr(before.size(), name.size() - before.size() - after.size());
    if (digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string::npos) continue;
    most = std::max<int64_t>(most, std::atoll(digits.c_str()));
  }
  ::closedir(directory);
  return most;
}

}  // namespace

Names::Names(const std::string& said, bool several) {
  const std::string path = is_folder(said) ? said + "/%04d.png" : said;
  const size_t slash = path.find_last_of('/');
  const std::string folder = folder_of(path);
  check_file(path);
  if (!ends(path, ".png")) {
    throw Error(Fault::output,
                printable(path) + ": flagdit_run writes PNG alone; give a name that ends in .png");
  }
  const size_t place = path.find('%', slash == std::string::npos ? 0 : slash);
  size_t end = place;
  if (place != std::string::npos) {
    ++end;
    if (path.size() > end + 1 && path[end] == '0' && path[end + 1] >= '1' && path[end + 1] <= '9') {
      width_ = path[end + 1] - '0';
      end += 2;
    }
    if (end < path.size() && path[end] == 'd') {
      before_ = path.substr(0, place);
      after_ = path.substr(end + 1);
      numbered_ = true;
    }
  }
  if (!numbered_) {
    before_ = path.substr(0, path.size() - 4) + (several ? "-" : "");
    after_ = ".png";
    width_ = several ? 4 : 0;
    numbered_ = several;
  }
  if (numbered_)
    next_ = 1 + highest(folder, before_.substr(slash == std::string::npos ? 0 : slash + 1), after_);
}

std::string Names::filled(int64_t number) const {
  if (!numbered_) return before_ + after_;
  char digits[32];
  std::snprintf(digits, sizeof digits, "%0*lld", width_, static_cast<long long>(number));
  return before_ + digits + after_;
}

std::string Names::take() {
  if (!numbered_) return filled(0);
  for (;;) {
    const std::string path = filled(next_++);
    const int file = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    if (file >= 0) {
      ::close(file);
      return path;
    }
    if (errno != EEXIST)
      throw Error(Fault::output, printable(path) + ": cannot be written (" + std::strerror(errno) +
                                     "); choose another path");
  }
}

void Names::give_back(const std::string& path) const {
  struct stat about{};
  if (numbered_ && ::stat(path.c_str(), &about) == 0 && about.st_size == 0) ::unlink(path.c_str());
}

std::string Names::beside(const std::string& path, const std::string& ending) {
  return path.substr(0, path.size() - 4) + ending;
}

bool same_file(const std::string& one, const std::string& other) {
  if (entry_of(one) == entry_of(other)) return true;
  struct stat first{}, second{};
  return ::stat(one.c_str(), &first) == 0 && ::stat(other.c_str(), &second) == 0 &&
         first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

void check_file(const std::string& path) {
  if (!is_folder(folder_of(path)))
    throw Error(Fault::output, printable(path) + ": there is no such folder; make it first");
  if (is_folder(path))
    throw Error(Fault::output, printable(path) + ": is a folder; give the name of a file");
}

}  // namespace flagdit
