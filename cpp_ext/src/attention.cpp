#include "flagdit/attention.h"

#include "attention_kernel.h"
#include "flagdit/amx.h"

namespace flagdit {

int64_t attention_tasks(const Attention& a) { return a.rows * a.kv_heads * attention_splits(a); }

void run_attention(const Attention& a, int64_t task) {
  (has_amx() ? attend_amx : attend_cpu)(a, attention_task(a, task));
}

}  // namespace flagdit
