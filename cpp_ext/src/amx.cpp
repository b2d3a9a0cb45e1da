#include "flagdit/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

namespace flagdit {
namespace {

constexpr unsigned bit(int n) { return 1u << n; }
constexpr bool all(unsigned have, unsigned want) { return (have & want) == want; }

// CPUID leaf 7: AVX-512 F, DQ, BW, VL; AMX bf16, tile, int8; AVX-512 bf16.
bool cpu_has_instructions() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if (!all(b, bit(16) | bit(17) | bit(30) | bit(31))) return false;
  if (!all(d, bit(22) | bit(24) | bit(25))) return false;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && all(a, bit(5));
}

// Linux keeps tiles back until a process asks for them, since they make its context larger.
bool system_grants_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool has_amx() {
  static const bool has =
      std::getenv("FLAGDIT_NO_AMX") == nullptr && cpu_has_instructions() && system_grants_tiles();
  return has;
}

}  // namespace flagdit
