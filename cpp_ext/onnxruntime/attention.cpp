// Attention to cached tokens and to the text, as an operator.
#include "flagdit/attention.h"

#include "operators.h"

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

  explicit AttentionOp(const KernelInfo& info) : text_scale_(info.real("text_scale")) {}

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
};

}  // namespace

const OrtCustomOp& attention() {
  static const Operator<AttentionOp> op;
  return op;
}

}  // namespace flagdit::onnxruntime
