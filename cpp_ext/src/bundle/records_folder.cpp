#include "records_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <utility>
#include <vector>

namespace flagdit::bundle {
namespace {

constexpr mode_t kOthers = S_IWGRP | S_IWOTH;

bool is_own(const struct stat& about) {
  return about.st_uid == ::geteuid() && (about.st_mode & kOthers) == 0;
}

std::string above(const std::string& path) { return path.substr(0, path.find_last_of('/')); }

// Whether the folder is there, or was made, in one of this user's.
bool made(const std::string& path) {
  struct stat about{};
  const bool there = ::stat(path.c_str(), &about) == 0;
  if (!there && ::stat(above(path).c_str(), &about) != 0) return false;
  if (!S_ISDIR(about.st_mode) || about.st_uid != ::geteuid()) return false;
  if (there) return true;
  return ::mkdir(path.c_str(), S_IRWXU) == 0 || errno == EEXIST;
}

// All of a short text, or nothing.
bool written(int file, const std::string& text) {
  return ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

}  // namespace

bool make_records_folder(const std::string& path) {
  const std::string own = above(path);
  return made(above(own)) && made(own) && made(path);
}

RecordsFolder::RecordsFolder(const std::string& path)
    : folder_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  struct stat about{};
  if (folder_ < 0 || (::fstat(folder_, &about) == 0 && is_own(about))) return;
  ::close(folder_);
  folder_ = -1;
}

RecordsFolder::~RecordsFolder() {
  if (folder_ >= 0) ::close(folder_);
}

bool RecordsFolder::reads(const std::string& name, const std::string& text) const {
  if (folder_ < 0) return false;
  const int file = ::openat(folder_, name.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
  if (file < 0) return false;
  struct stat about{};
  std::string found(text.size() + 1, '\0');
  const bool own = ::fstat(file, &about) == 0 && S_ISREG(about.st_mode) && is_own(about);
  const ssize_t count = own ? ::read(file, found.data(), found.size()) : -1;
  const bool same =
      count == static_cast<ssize_t>(text.size()) && found.compare(0, text.size(), text) == 0;
  if (same) ::futimens(file, nullptr);
  ::close(file);
  return same;
}

void RecordsFolder::write(const std::string& name, const std::string& text, int most) const {
  if (folder_ < 0) return;
  struct timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const std::string part =
      "." + name + "." + std::to_string(::getpid()) + "." + std::to_string(now.tv_nsec);
  const int file =
      ::openat(folder_, part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (file < 0) return;
  const bool whole = written(file, text);
  ::close(file);
  if (!whole || ::renameat(folder_, part.c_str(), folder_, name.c_str()) != 0)
    ::unlinkat(folder_, part.c_str(), 0);
  drop(most);
}

void RecordsFolder::drop(int most) const {
  const int again = ::openat(folder_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* folder = again < 0 ? nullptr : ::fdopendir(again);
  if (folder == nullptr) return;
  std::vector<std::pair<int64_t, std::string>> files;  // by when they were used
  while (const dirent* entry = ::readdir(folder)) {
    struct stat about{};
    if (::fstatat(folder_, entry->d_name, &about, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(about.st_mode))
      files.push_back({about.st_mtime, entry->d_name});
  }
  ::closedir(folder);
  if (static_cast<int>(files.size()) <= most) return;
  std::sort(files.begin(), files.end());
  files.resize(files.size() - static_cast<size_t>(most) / 2);
  for (const auto& [used, name] : files) ::unlinkat(folder_, name.c_str(), 0);
}

}  // namespace flagdit::bundle
