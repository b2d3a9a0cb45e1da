// ONNX's own Attention, computed by ONNX Runtime's own kernel, but some queries at a time: its
// scores then take the same memory for any number of them. A query's result does not depend on the
// others', to the bit.
#include <algorithm>
#include <atomic>
#include <memory>

#include "operators.h"

namespace flagdit::onnxruntime {
namespace {

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

// Queries, keys, values and mask of one call, and where its result goes.
struct Operands {
  View<float> query, key, value, mask;  // (R, H, A, d), (R, G, N, d) twice, (R or 1, H or 1, A, N)
  float* out;                           // (R, H, A, d)

  int64_t rows() const { return query.shape[0]; }
  int64_t heads() const { return query.shape[1]; }
  int64_t active() const { return query.shape[2]; }
  int64_t keys() const { return key.shape[2]; }
  int64_t pairs() const { return rows() * heads(); }
  int64_t score_bytes(int64_t queries) const {
    return queries * keys() * static_cast<int64_t>(sizeof(float));
  }
  // Blocks of queries that a row's head is cut into.
  int64_t blocks() const {
    if (score_bytes(pairs() * active()) <= kWholeBytes) return 1;
    const int64_t most = std::max(kLeastQueries, kBlockBytes / score_bytes(1));
    return (active() + most - 1) / most;
  }
};

// ONNX Runtime's kernel with so many inputs: the last of four is the mask.
Owned<OrtOp> native(const KernelInfo& info, int inputs) {
  const float scale = info.real("scale");
  OrtOpAttr* attribute = nullptr;
  check(api().CreateOpAttr("scale", &scale, 1, ORT_OP_ATTR_FLOAT, &attribute));
  const Owned<OrtOpAttr> owned(attribute);
  const char* names[] = {"T1", "T2", "U"};
  const ONNXTensorElementDataType types[] = {kFloat, kFloat, kFloat};
  OrtOp* op = nullptr;
  check(api().CreateOp(info.raw(), "Attention", "", 23, names, types, 3, &attribute, 1, inputs, 1,
                       &op));
  return Owned<OrtOp>(op);
}

class BlockedAttentionOp {
 public:
  static constexpr const char* kName = "Attention";
  static constexpr Inputs kInputs{4, bits(3, 4)};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};

  explicit BlockedAttentionOp(const KernelInfo& info)
      : plain_(native(info, 3)), masked_(native(info, 4)) {
    for (const char* attribute : {"is_causal", "qk_matmul_output_mode", "q_num_heads"})
      require(info.integer(attribute, 0) == 0, "only plain attention of 4-D tensors is known");
    require(info.real("softcap", 0.0f) == 0.0f, "attention with a softcap is not known");
    OrtMemoryInfo* memory = nullptr;
    check(api().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
    memory_.reset(memory);
  }

  void compute(Context& context) const {
    Operands o{context.input(0), context.input(1), context.input(2), {}, nullptr};
    if (context.has(3)) o.mask = context.input(3);
    check_shapes(o);
    o.out = context.output(o.query.shape);
    const int64_t blocks = o.blocks();
    if (blocks == 1) {
      const View<float> out{o.out, o.query.shape};
      check(invoke(context, o.query, o.key, o.value, o.mask, out));
      return;
    }
    std::atomic<OrtStatus*> failed{nullptr};
    context.parallel(o.pairs() * blocks, [&](int64_t task) {
      OrtStatus* status = run(context, o, task / blocks, task % blocks, blocks);
      if (status != nullptr) status = failed.exchange(status);
      if (status != nullptr) api().ReleaseStatus(status);
    });
    check(failed.load());
  }

 private:
  // Queries of one block of one pair of a row and a head.
  OrtStatus* run(const Context& context, const Operands& o, int64_t pair, int64_t block,
                 int64_t blocks) const {
    const int64_t begin = o.active() * block / blocks;
    const int64_t count = o.active() * (block + 1) / blocks - begin;
    const int64_t row = pair / o.heads(), head = pair % o.heads(), size = o.query.shape[3];
    const int64_t group = o.heads() / o.key.shape[1], kv = row * o.key.shape[1] + head / group;
    const int64_t at = (pair * o.active() + begin) * size, kv_at = kv * o.keys() * size;
    View<float> mask{};
    if (o.mask.rank() != 0) {
      const int64_t own =
          (o.mask.shape[0] > 1 ? row : 0) * o.mask.shape[1] + (o.mask.shape[1] > 1 ? head : 0);
      mask = {o.mask.data + (own * o.active() + begin) * o.keys(), {1, 1, count, o.keys()}};
    }
    const std::vector<int64_t> queries{1, 1, count, size}, keys{1, 1, o.keys(), size};
    return invoke(context, {o.query.data + at, queries}, {o.key.data + kv_at, keys},
                  {o.value.data + kv_at, keys}, mask, {o.out + at, queries});
  }

  OrtStatus* invoke(const Context& context, const View<float>& query, const View<float>& key,
                    const View<float>& value, const View<float>& mask, const View<float>& out) const
      try {
    const bool masked = mask.rank() != 0;
    const Owned<OrtValue> q = tensor(query), k = tensor(key), v = tensor(value), y = tensor(out);
    const Owned<OrtValue> m = masked ? tensor(mask) : Owned<OrtValue>();
    const OrtValue* inputs[] = {q.get(), k.get(), v.get(), m.get()};
    OrtValue* outputs[] = {y.get()};
    return api().InvokeOp(context.raw(), (masked ? masked_ : plain_).get(), inputs, masked ? 4 : 3,
                          outputs, 1);
  } catch (const std::exception& error) {  // must not reach the threads of ONNX Runtime
    return failed(kName, error);
  }

  Owned<OrtValue> tensor(const View<float>& x) const {
    OrtValue* value = nullptr;
    check(api().CreateTensorWithDataAsOrtValue(memory_.get(), const_cast<float*>(x.data),
                                               x.count() * sizeof(float), x.shape.data(), x.rank(),
                                               kFloat, &value));
    return Owned<OrtValue>(value);
  }

  static void check_shapes(const Operands& o) {
    require(o.query.rank() == 4 && o.key.rank() == 4,
            "queries and keys must be (R, heads, tokens, d)");
    const int64_t kv_heads = o.key.shape[1];
    require(kv_heads > 0 && o.heads() % kv_heads == 0,
            "query heads must be a multiple of key heads");
    require(o.key.shape == std::vector<int64_t>{o.rows(), kv_heads, o.keys(), o.query.shape[3]} &&
                o.value.shape == o.key.shape,
            "keys and values must be (R, G, tokens, d)");
    if (o.mask.rank() == 0) return;
    const std::vector<int64_t>& m = o.mask.shape;
    require(m.size() == 4 && (m[0] == 1 || m[0] == o.rows()) && (m[1] == 1 || m[1] == o.heads()) &&
                m[2] == o.active() && m[3] == o.keys(),
            "the mask must be (R or 1, H or 1, A, tokens)");
  }

  Owned<OrtOp> plain_, masked_;
  Owned<OrtMemoryInfo> memory_;
};

}  // namespace

const OrtCustomOp& blocked_attention() {
  static const auto op = [] {
    Operator<BlockedAttentionOp> made;
    made.GetStartVersion = made.GetEndVersion = [](const OrtCustomOp*) { return 23; };
    return made;
  }();
  return op;
}

}  // namespace flagdit::onnxruntime
