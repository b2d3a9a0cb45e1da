#include "flagdit/attention.h"

#include "attention_kernel.h"
#include "flagdit/amx.h"
#include "scratch.h"

namespace flagdit {

void* packing_memory(const Attention& a) {
  if (!has_amx()) return nullptr;
  const int64_t bytes =
      sum("attention", {packed_layout(a, a.tokens).bytes(), packed_layout(a, a.text).bytes()});
  return scratch<char, struct PackedScratch>(bytes);
}

int64_t pack_tasks(const Attention& a) {
  return has_amx() ? packed_layout(a, a.tokens).blocks() + packed_layout(a, a.text).blocks() : 0;
}

void pack_keys(const Attention& a, int64_t task) { pack_amx(a, task); }

int64_t attention_tasks(const Attention& a) { return a.rows * a.kv_heads * attention_splits(a); }

void run_attention(const Attention& a, int64_t task) {
  (has_amx() ? attend_amx : attend_cpu)(a, attention_task(a, task));
}

}  // namespace flagdit
