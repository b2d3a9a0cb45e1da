#include "finite_kernel.h"

namespace flagdit {
namespace {

template <typename Bits>
int64_t broken_in(const FiniteKernel& k) {
  const auto* values = static_cast<const Bits*>(k.values);
  int64_t broken = 0;
  for (int64_t i = 0; i < k.count; ++i) broken += (values[i] & k.exponent) == k.exponent;
  return broken;
}

}  // namespace

void finite_cpu(const FiniteKernel& k) {
  *k.broken = counted_up(*k.broken, k.bytes == 4 ? broken_in<uint32_t>(k) : broken_in<uint16_t>(k));
}

}  // namespace flagdit
