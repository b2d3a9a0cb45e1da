// ONNX's own Attention, computed by ONNX Runtime's own kernel, but some queries at a time: its
// scores then take the same memory for any number of them. A query's result does not depend on the
// others', to the bit.
#include <algorithm>
#include <memory>
#include <string>

#include "operators.h"

namespace flagdit::onnxruntime {
namespace {

constexpr int kOpset = 23;  // that it was added in, and the only one it is made for here
constexpr int64_t kBytes = sizeof(float);
constexpr int64_t kWholeBytes = 4 << 20;  // scores that are computed in one go
constexpr int64_t kBlockBytes = 1 << 20;  // of a task otherwise: they stay in a core's L2 cache
constexpr int64_t kLeastQueries = 64;  // of a task: for fewer, laying out the keys costs too much

struct Release {
  void operator()(OrtValue* value) const { api().ReleaseValue(value); }
  void operator()(OrtOp* op) const { api().ReleaseOp(op); }
  void operator()(OrtOpAttr* attribute) const { api().ReleaseOpAttr(attribute); }
  void operator()(OrtMemoryInfo* memory) const { api().ReleaseMemoryInfo(memory); }
};
template <typename T>
using Owned = std::unique_ptr<T, Release>;

// A part of a tensor of four axes.
struct Part {
  const float* data;
  int64_t shape[4];
};

// The operands of one call. Every axis of a key has 1 or more, so what is multiplied with it is no
// larger than what lies in memory, but for the scores.
struct Operands {
  explicit Operands(const Context& context)
      : query(context.input(0)),
        key(context.input(1)),
        value(context.input(2)),
        masked(context.has(3, 1)) {
    query.need_rank(4, "(R, H, A, d)");
    key.need_rank(4, "(R, G, tokens, d)");
    rows = query.shape[0], heads = query.some(1), active = query.shape[2], size = query.some(3);
    kv_heads = key.some(1), keys = key.some(2);
    key.need_shape({rows, kv_heads, keys, size}, "(R, G, tokens, d)");
    value.need_shape(key.shape, "(R, G, tokens, d)");
    if (heads % kv_heads != 0)
      query.refuse_shape("heads (axis 1) that are a multiple of the keys' " +
                         std::to_string(kv_heads));
    if (!masked) return;
    const View<float> all = context.input(3);
    all.need_rank(4, "(R or 1, H or 1, A, tokens)");
    mask_rows = all.shape[0], mask_heads = all.shape[1], mask = all.data;
    all.need_shape({mask_rows == 1 ? 1 : rows, mask_heads == 1 ? 1 : heads, active, keys},
                   "(R or 1, H or 1, A, tokens)");
  }

  bool small() const {
    return product("scores", {rows, heads, active, keys, kBytes}) <= kWholeBytes;
  }
  // Blocks of queries that a head of a row is cut into.
  int64_t blocks() const {
    const int64_t most = std::max(kLeastQueries, kBlockBytes / (keys * kBytes));
    return (active + most - 1) / most;
  }

  View<float> query, key, value;  // (R, H, A, d), (R, G, tokens, d) twice
  const float* mask = nullptr;    // (R or 1, H or 1, A, tokens)
  bool masked;
  int64_t rows, heads, active, size, kv_heads, keys;
  int64_t mask_rows = 1, mask_heads = 1;
};

// Refuses an attribute that is there and is not 0: none
// of those that change what is computed are known.
void need_none(const KernelInfo& info, const char* attribute) {
  int64_t integer = 0;
  float real = 0.0f;
  OrtStatus* status = api().KernelInfoGetAttribute_int64(info.raw(), attribute, &integer);
  if (status != nullptr) {
    api().ReleaseStatus(status);
    status = api().KernelInfoGetAttribute_float(info.raw(), attribute, &real);
  }
  if (status != nullptr) api().ReleaseStatus(status);
  if (integer != 0 || real != 0.0f)
    refuse(attribute, std::to_string(integer != 0 ? integer : real), "0, or none");
}

// ONNX Runtime's kernel with so many inputs: the last of four is the mask.
Owned<OrtOp> native(const KernelInfo& info, int inputs) {
  const float scale = info.real("scale", 0.0f);
  OrtOpAttr* attribute = nullptr;
  check(api().CreateOpAttr("scale", &scale, 1, ORT_OP_ATTR_FLOAT, &attribute));
  const Owned<OrtOpAttr> owned(attribute);
  const char* names[] = {"T1", "T2", "U"};
  const ONNXTensorElementDataType types[] = {kFloat, kFloat, kFloat};
  OrtOp* op = nullptr;
  check(api().CreateOp(info.raw(), "Attention", "", kOpset, names, types, 3, &attribute, 1, inputs,
                       1, &op));
  return Owned<OrtOp>(op);
}

class BlockedAttentionOp {
 public:
  static constexpr const char* kName = "Attention";
  static constexpr Inputs kInputs{{"Q", "K", "V", "attn_mask"}, bits(3, 4)};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};

  explicit BlockedAttentionOp(const KernelInfo& info)
      : plain_(native(info, 3)), masked_(native(info, 4)) {
    for (const char* attribute : {"is_causal", "softcap", "qk_matmul_output_mode", "q_num_heads",
                                  "kv_num_heads", "softmax_precision"})
      need_none(info, attribute);
    OrtMemoryInfo* memory = nullptr;
    check(api().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
    memory_.reset(memory);
  }

  void compute(Context& context) const {
    const Operands o(context);
    float* out = context.output(o.query.shape);
    if (o.rows == 0 || o.active == 0) return;
    if (o.small()) {
      const Part mask{o.mask, {o.mask_rows, o.mask_heads, o.active, o.keys}};
      invoke(context, {o.query.data, {o.rows, o.heads, o.active, o.size}},
             {o.key.data, {o.rows, o.kv_heads, o.keys, o.size}}, o.value.data, mask, out);
      return;
    }
    const int64_t blocks = o.blocks();
    context.parallel(o.rows * o.heads * blocks, [&](int64_t task) {
      run(context, o, task / blocks, task % blocks, blocks, out);
    });
  }

 private:
  // One block of the queries of a pair of a row and a head.
  void run(const Context& context, const Operands& o, int64_t pair, int64_t block, int64_t blocks,
           float* out) const {
    const int64_t begin = o.active * block / blocks;
    const int64_t count = o.active * (block + 1) / blocks - begin;
    const int64_t row = pair / o.heads, head = pair % o.heads;
    const int64_t kv = row * o.kv_heads + head / (o.heads / o.kv_heads);
    const int64_t at = (pair * o.active + begin) * o.size, kv_at = kv * o.keys * o.size;
    const int64_t own = (o.mask_rows > 1 ? row : 0) * o.mask_heads + (o.mask_heads > 1 ? head : 0);
    const float* mask = o.masked ? o.mask + (own * o.active + begin) * o.keys : nullptr;
    invoke(context, {o.query.data + at, {1, 1, count, o.size}},
           {o.key.data + kv_at, {1, 1, o.keys, o.size}}, o.value.data + kv_at,
           {mask, {1, 1, count, o.keys}}, out + at);
  }

  // value: of the shape of the key. out: of the shape of the query.
  void invoke(const Context& context, const Part& query, const Part& key, const float* value,
              const Part& mask, float* out) const {
    const bool masked = mask.data != nullptr;
    const Owned<OrtValue> q = tensor(query.data, query), k = tensor(key.data, key);
    const Owned<OrtValue> v = tensor(value, key), y = tensor(out, query);
    const Owned<OrtValue> m = masked ? tensor(mask.data, mask) : Owned<OrtValue>();
    const OrtValue* inputs[] = {q.get(), k.get(), v.get(), m.get()};
    OrtValue* outputs[] = {y.get()};
    check(api().InvokeOp(context.raw(), (masked ? masked_ : plain_).get(), inputs, masked ? 4 : 3,
                         outputs, 1));
  }

  Owned<OrtValue> tensor(const float* data, const Part& of) const {
    const auto bytes = static_cast<size_t>(product(
                           "Attention", {of.shape[0], of.shape[1], of.shape[2], of.shape[3]})) *
                       sizeof(float);
    OrtValue* value = nullptr;
    check(api().CreateTensorWithDataAsOrtValue(memory_.get(), const_cast<float*>(data), bytes,
                                               of.shape, 4, kFloat, &value));
    return Owned<OrtValue>(value);
  }

  Owned<OrtOp> plain_, masked_;
  Owned<OrtMemoryInfo> memory_;
};

}  // namespace

const OrtCustomOp& blocked_attention() {
  static const auto op = [] {
    Operator<BlockedAttentionOp> made;
    made.GetStartVersion = made.GetEndVersion = [](const OrtCustomOp*) { return kOpset; };
    return made;
  }();
  return op;
}

}  // namespace flagdit::onnxruntime
