#include "names.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "../src/printable.h"
#include "flagdit/error.h"
#include "outputs.h"

namespace flagdit {
namespace {

bool ends(const std::string& text, const std::string& ending) {
  return text.size() >= ending.size() &&
         text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

// Where the name of a path begins.
size_t name_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? 0 : slash + 1;
}

// Throws Error(output) unless the name ends so, with something before it.
void check_ending(const std::string& path, const std::string& ending, const char* advice) {
  const size_t name = path.size() - name_of(path);
  if (name <= ending.size() || !ends(path, ending))
    throw Error(Fault::output, printable(path) + ": " + advice + "; give a name that ends in " +
                                   ending + ", such as out" + ending);
}

// With %d, or %04d, at this place: as printf has them, and no other.
std::optional<Template> numbered_at(const std::string& path, size_t place) {
  size_t end = place + 1;
  int width = 0;
  if (end + 1 < path.size() && path[end] == '0' && path[end + 1] >= '1' && path[end + 1] <= '9') {
    width = path[end + 1] - '0';
    end += 2;
  }
  if (end >= path.size() || path[end] != 'd') return std::nullopt;
  return Template{path.substr(0, place), path.substr(end + 1), width, true};
}

// Whether printf would put something there.
bool is_place(const std::string& path, size_t sign) {
  const size_t end = path.find_first_not_of("0123456789", sign + 1);
  return end != std::string::npos && std::isalpha(static_cast<unsigned char>(path[end])) != 0;
}

// Of a path that ends in `ending`. Throws Error(output) where several need a number, and the name
// has a place for something else.
Template template_of(const std::string& path, const std::string& ending, bool several) {
  for (size_t sign = path.find('%', name_of(path)); sign != std::string::npos;
       sign = path.find('%', sign + 1)) {
    if (const auto found = numbered_at(path, sign)) return *found;
    if (several && is_place(path, sign))
      throw Error(Fault::output, printable(path) +
                                     ": has a place for something that is no number (" +
                                     printable(path.substr(sign, 2)) +
                                     "); a number's is %d, or %04d for at least four digits");
  }
  const std::string stem = path.substr(0, path.size() - ending.size());
  if (several) return {stem + "-", ending, 4, true};
  return {stem, ending};
}

bool is_there(const std::string& path) {
  struct stat about{};
  return ::lstat(path.c_str(), &about) == 0;
}

// Whether an empty file has the name now, that no file had.
bool reserve(const std::string& path) {
  const int file = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
  if (file >= 0) {
    ::close(file);
    return true;
  }
  if (errno == EEXIST) return false;
  throw Error(Fault::output, printable(path) + ": cannot be written (" + std::strerror(errno) +
                                 "); choose another path");
}

}  // namespace

std::string Template::filled(int64_t number) const {
  if (!numbered) return before + after;
  char digits[32];
  std::snprintf(digits, sizeof digits, "%0*lld", width, static_cast<long long>(number));
  return before + digits + after;
}

int64_t Template::highest() const {
  int64_t most = 0;
  DIR* directory = numbered ? ::opendir(folder_of(before).c_str()) : nullptr;
  if (directory == nullptr) return most;
  const std::string begin = before.substr(name_of(before));
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name.size() <= begin.size() + after.size() || name.rfind(begin, 0) != 0 ||
        !ends(name, after))
      continue;
    const std::string digits = name.substr(begin.size(), name.size() - begin.size() - after.size());
    if (digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string::npos) continue;
    most = std::max<int64_t>(most, std::atoll(digits.c_str()));
  }
  ::closedir(directory);
  return most;
}

Names::Names(const std::string& output, const std::string& report, bool several) {
  const std::string path = is_folder(output) ? output + "/%04d.png" : output;
  check_file(path);
  check_ending(path, ".png", "flagdit_run writes PNG alone");
  picture_ = template_of(path, ".png", several);
  if (!report.empty()) {
    check_file(report);
    check_apart(path, report);
    check_ending(report, ".json", "a report is JSON");
    report_ = template_of(report, ".json", picture_.numbered);
    if (!picture_.numbered && report_.numbered) report_ = {report, ""};
  }
  if (picture_.numbered) next_ = 1 + std::max(picture_.highest(), report_.highest());
}

Files Names::next() const { return {picture_.filled(next_), report_.filled(next_)}; }

Files Names::take() {
  if (!picture_.numbered) return next();
  while ((!report_.before.empty() && is_there(report_.filled(next_))) ||
         !reserve(picture_.filled(next_)))
    ++next_;
  const Files files = next();
  ++next_;
  return files;
}

void Names::give_back(const Files& files) const {
  struct stat about{};
  if (picture_.numbered && ::stat(files.picture.c_str(), &about) == 0 && about.st_size == 0)
    ::unlink(files.picture.c_str());
}

}  // namespace flagdit
