// How much memory this process may hold: of the machine, of its container, of its shell's limits.
// Only what a system says is known: where it says nothing, nothing is refused.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace flagdit {

// Where a system says it, and what it says elsewhere than in files.
struct System {
  std::string proc = "/proc", cgroups = "/sys/fs/cgroup";
  std::optional<int64_t> memory;         // of the machine
  std::optional<int64_t> address_space;  // limit on it, ulimit -v

  static System here();
};

// Bytes that this process could hold in all, those that it holds already among them; none if nobody
// says. Linux: what /proc calls available and what every cgroup of the process has left (version 2
// or 1), file pages that would give way not counted as used, and the limit on its address space.
// Elsewhere: the machine's memory.
std::optional<int64_t> room(const System& system = System::here());

// Bytes that this process holds; 0 if nobody says.
int64_t resident(const std::string& proc = "/proc");

}  // namespace flagdit
