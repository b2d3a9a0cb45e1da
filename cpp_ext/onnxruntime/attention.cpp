// Attention to cached tokens and to the text, as an operator.
#include "flagdit/attention.h"

#include "flagdit/session.h"
#include "operators.h"
#include "product_parts.h"
#include "tails.h"

namespace flagdit::onnxruntime {
namespace {

using Keys = View<uint16_t>;

struct AttentionOp {
  static constexpr const char* kName = "Attention";
  static constexpr Inputs kInputs{{"query", "scale", "keys", "values", "key_tail", "value_tail",
                                   "text_keys", "text_values", "text_bias", "text_gate", "bias"},
                                  bits(4, 11),
                                  0,
                                  bits(2, 8)};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};

  explicit AttentionOp(const KernelInfo& info)
      : text_scale_(info.real("text_scale")), ports_{tail_of(info, 4), tail_of(info, 5)} {
    if (!finds_tail()) return;
    for (const std::string& port : ports_) FoundTails::add(port);
  }

  void compute(Context& context) const {
    const View<float> query = context.input(0), scale = context.input(1);
    const Keys key = context.input<uint16_t>(2), value = context.input<uint16_t>(3);
    query.need_rank(4, "(A, R, H, d)");
    key.need_rank(4, "(A, R, G, d)");
    scale.need_count(1, "one scale");
    Attention a{};
    a.query = query.data;
    a.active = query.shape[0], a.rows = query.shape[1], a.heads = query.some(2);
    a.kv_heads = key.some(2), a.size = query.some(3);
    if (a.heads % a.kv_heads != 0)
      query.refuse_shape("heads (axis 2) that are a multiple of the keys' " +
                         std::to_string(a.kv_heads));
    a.tokens.scale = scale.data[0];
    a.tokens.head = slots(a, key, value);
    if (context.has(4, 2))
      a.tokens.tail = slots(a, context.input<uint16_t>(4), context.input<uint16_t>(5));
    if (context.has(6, 4)) read_text(context, a);
    const KeptKeyValues kept = read_kept(a);
    if (kept.tails != nullptr) a.tokens.kept = &kept;
    const int64_t keys = sum("keys and key_tail", {a.tokens.head.count, a.tokens.tail.count});
    const int64_t width = product("query", {a.heads, a.size});
    if (context.has(10, 1)) {
      const View<float> bias = context.input(10);
      bias.need_count(product(bias.name, {a.rows, keys}), "(R, A + M)");
      a.tokens.bias = bias.data;
    }
    if (a.active > 0 && a.rows > 0 && keys == 0) key.refuse_shape("a key or more, with key_tail");
    a.out = context.output({a.active, a.rows, width});
    if (a.active == 0 || a.rows == 0) return;
    a.packed = packing_memory(a);
    context.parallel(pack_tasks(a), [&](int64_t task) { pack_keys(a, task); });
    context.parallel(attention_tasks(a), [&](int64_t task) { run_attention(a, task); });
  }

 private:
  // The port of a tail, an input of the graph, if what comes before it is the head of the same cache
  // and no more; otherwise empty.
  static std::string tail_of(const KernelInfo& info, size_t input) {
    const std::string tail = info.called(input);
    return head_of(tail) == info.called(input - 2) ? tail : "";
  }

  bool finds_tail() const { return !ports_[0].empty() && !ports_[1].empty(); }

  // Where keys and values are by token, in a call that has them so. What a graph may have made
  // otherwise than the run did is its head and its tail.
  KeptKeyValues read_kept(const Attention& a) const {
    const Tails* tails = finds_tail() ? CalledTails::now() : nullptr;
    if (tails == nullptr) return {};
    const KeptKeyValues kept{tails, CalledTails::take(ports_[0]), CalledTails::take(ports_[1])};
    need_size("keys: tokens", a.tokens.head.count, "those of the call", tails->active);
    need_size("key_tail: tokens", a.tokens.tail.count, "those of the call", tails->tail);
    need_size("keys: rows", a.rows, "those of the call", tails->rows);
    for (const KeptRows& cache : {kept.keys, kept.values}) {
      need_size("keys: values of a row", a.kv_heads * a.size, "those of the cache", cache.width);
      need_size("keys and key_tail", tails->active + tails->tail, "the tokens", cache.tokens);
    }
    return kept;
  }

  void read_text(const Context& context, Attention& a) const {
    const Keys key = context.input<uint16_t>(6), value = context.input<uint16_t>(7);
    const View<float> bias = context.input(8), gate = context.input(9);
    key.need_shape({a.rows, a.kv_heads, kAny, a.size}, "(R, G, T, d)");
    value.need_shape(key.shape, "(R, G, T, d)");
    const int64_t words = key.shape[2];
    bias.need_count(product(bias.name, {a.rows, words}), "(R, T)");
    gate.need_count(product(gate.name, {a.heads, a.size}), "(H * d)");
    const int64_t head = product(key.name, {words, a.size});
    a.text.head = {key.data, value.data, words, a.size, product(key.name, {a.kv_heads, head}),
                   head};
    a.text.bias = bias.data, a.text.scale = text_scale_, a.text_gate = gate.data;
  }

  static KeyValues slots(const Attention& a, const Keys& key, const Keys& value) {
    key.need_shape({kAny, a.rows, a.kv_heads, a.size}, "(tokens, R, G, d)");
    value.need_shape(key.shape, "(tokens, R, G, d)");
    const int64_t row = product(key.name, {a.kv_heads, a.size});
    return {key.data, value.data, key.shape[0], product(key.name, {a.rows, row}), row, a.size};
  }

  float text_scale_;
  std::string ports_[2];  // of the tails of keys and of values
};

}  // namespace

const OrtCustomOp& attention() {
  static const Operator<AttentionOp> op;
  return op;
}

}  // namespace flagdit::onnxruntime
