// What a build for a processor without AMX has in place of the kernels for it.
#include <cstdlib>

#include "attention_kernel.h"
#include "flagdit/amx.h"
#include "linear_kernel.h"

namespace flagdit {

bool has_amx() { return false; }

void pack_amx(const Attention&, int64_t) { std::abort(); }
void attend_amx(const Attention&, const AttentionTask&) { std::abort(); }
void multiply_amx(const Linear&, Tokens) { std::abort(); }
void feed_forward_amx(const FeedForward&, Tokens) { std::abort(); }

}  // namespace flagdit
