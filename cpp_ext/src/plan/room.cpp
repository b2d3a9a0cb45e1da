#include "flagdit/room.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace flagdit {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kUnlimited = int64_t{1} << 60;  // above it, a cgroup of version 1 has no limit

// What is no number, or too large for one, is none.
std::optional<int64_t> number_of(const std::string& text) {
  const bool digits =
      std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (text.empty() || !digits) return std::nullopt;
  return text.size() > 18 ? kUnlimited : std::strtoll(text.c_str(), nullptr, 10);
}

// Of a line "NAME: NUMBER ..." or "NAME NUMBER" of a file.
std::optional<int64_t> named(const fs::path& path, const std::string& name) {
  std::ifstream file(path);
  std::optional<int64_t> found;
  for (std::string line; std::getline(file, line);) {
    std::replace(line.begin(), line.end(), ':', ' ');
    std::istringstream words(line);
    std::string first, second;
    if (!(words >> first >> second) || first != name) continue;
    if (const std::optional<int64_t> number = number_of(second)) found = number;
  }
  return found;
}

// The one number of a file; none if it holds none ("max").
std::optional<int64_t> only(const fs::path& path) {
  std::ifstream file(path);
  std::string text, more;
  if (!(file >> text) || (file >> more)) return std::nullopt;
  return number_of(text);
}

struct Names {
  const char *limit, *used, *stale;
};

// What is left in a cgroup of version 2 or 1, if it has a limit.
void add_left(const fs::path& folder, std::vector<int64_t>& out) {
  for (const Names& names :
       {Names{"memory.max", "memory.current", "inactive_file"},
        Names{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}}) {
    const auto most = only(folder / names.limit), now = only(folder / names.used);
    if (most && now && *most < kUnlimited) {
      out.push_back(*most - *now + named(folder / "memory.stat", names.stale).value_or(0));
    }
  }
}

bool has_memory(const std::string& number, const std::string& controllers) {
  if (number == "0") return true;
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == "memory") return true;
  }
  return false;
}

// What is left in the cgroups of this process and in those around them.
std::vector<int64_t> left_in_cgroups(const System& system) {
  std::ifstream file(fs::path(system.proc) / "self/cgroup");
  std::vector<int64_t> out;
  for (std::string line; std::getline(file, line);) {
    std::istringstream parts(line);
    std::string number, controllers, path;
    if (!std::getline(parts, number, ':') || !std::getline(parts, controllers, ':')) continue;
    std::getline(parts, path);
    if (!has_memory(number, controllers)) continue;
    const fs::path root(system.cgroups), base = number == "0" ? root : root / "memory";
    // A container sees its own cgroup at the root, whatever it is called outside.
    std::set<fs::path> folders{base};
    fs::path folder = base;
    for (const fs::path& part : fs::path(path).relative_path()) {
      folder /= part;
      folders.insert(folder);
    }
    for (const fs::path& each : folders) add_left(each, out);
  }
  return out;
}

}  // namespace

System System::here() {
  System out;
#if defined(__unix__) || defined(__APPLE__)
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
  if (pages > 0 && page > 0) out.memory = static_cast<int64_t>(pages) * page;
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    out.address_space = static_cast<int64_t>(limit.rlim_cur);
  }
#endif
  return out;
}

std::optional<int64_t> room(const System& system) {
  const int64_t own = resident(system.proc);
  std::vector<int64_t> left = left_in_cgroups(system);
  if (const auto available = named(fs::path(system.proc) / "meminfo", "MemAvailable")) {
    left.push_back(*available << 10);
  }
  std::vector<int64_t> bounds;
  for (int64_t bytes : left) bounds.push_back(own + std::max<int64_t>(bytes, 0));
  if (bounds.empty() && system.memory) bounds.push_back(*system.memory);
  const int64_t reserved = named(fs::path(system.proc) / "self/status", "VmSize").value_or(0) << 10;
  if (system.address_space && reserved > 0) {
    bounds.push_back(own + std::max<int64_t>(*system.address_space - reserved, 0));
  }
  if (bounds.empty()) return std::nullopt;
  return *std::min_element(bounds.begin(), bounds.end());
}

int64_t resident(const std::string& proc) {
  return named(fs::path(proc) / "self/status", "VmRSS").value_or(0) << 10;
}

}  // namespace flagdit
