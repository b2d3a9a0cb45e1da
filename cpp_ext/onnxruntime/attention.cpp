// Attention to cached tokens and to the text, as an operator.
#include "flagdit/attention.h"

#include "operators.h"

namespace flagdit::onnxruntime {
namespace {

using Keys = View<uint16_t>;

struct AttentionOp {
  static constexpr const char* kName = "Attention";
  static constexpr Inputs kInputs{10, bits(4, 10), 0, bits(2, 8)};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};

  explicit AttentionOp(const KernelInfo& info) : text_scale_(info.real("text_scale")) {}

  void compute(Context& context) const {
    const View<float> query = context.input(0), scale = context.input(1);
    const Keys key = context.input<uint16_t>(2), value = context.input<uint16_t>(3);
    require(query.rank() == 4, "the query must be (A, R, H, d)");
    require(key.rank() == 4, "keys must be (tokens, R, G, d)");
    require(scale.count() == 1 && key.shape[2] > 0, "there must be one scale and a key head");
    require(query.shape[2] % key.shape[2] == 0, "query heads must be a multiple of key heads");
    Attention a{};
    a.query = query.data;
    a.active = query.shape[0], a.rows = query.shape[1], a.heads = query.shape[2];
    a.kv_heads = key.shape[2], a.size = query.shape[3];
    a.tokens.scale = scale.data[0];
    a.tokens.head = slots(a, key, value);
    if (context.has(4))
      a.tokens.tail = slots(a, context.input<uint16_t>(4), context.input<uint16_t>(5));
    if (context.has(6)) read_text(context, a);
    a.out = context.output({a.active, a.rows, a.heads * a.size});
    if (a.active * a.rows == 0) return;
    require(a.tokens.count() > 0, "there must be a key");
    a.packed = packing_memory(a);
    context.parallel(pack_tasks(a), [&](int64_t task) { pack_keys(a, task); });
    context.parallel(attention_tasks(a), [&](int64_t task) { run_attention(a, task); });
  }

 private:
  void read_text(const Context& context, Attention& a) const {
    const Keys key = context.input<uint16_t>(6), value = context.input<uint16_t>(7);
    const View<float> bias = context.input(8), gate = context.input(9);
    const std::vector<int64_t> shape{a.rows, a.kv_heads, key.rank() == 4 ? key.shape[2] : 0,
                                     a.size};
    require(key.shape == shape && value.shape == shape, "the text's keys must be (R, G, T, d)");
    require(bias.count() == a.rows * shape[2], "the text's bias must be (R, T)");
    require(gate.count() == a.heads * a.size, "the text's gate must be (H * d)");
    const int64_t head = shape[2] * a.size;
    a.text.head = {key.data, value.data, shape[2], a.size, a.kv_heads * head, head};
    a.text.bias = bias.data, a.text.scale = text_scale_, a.text_gate = gate.data;
  }

  static KeyValues slots(const Attention& a, const Keys& key, const Keys& value) {
    const std::vector<int64_t> shape{key.shape[0], a.rows, a.kv_heads, a.size};
    require(key.shape == shape && value.shape == shape,
            "keys and values must be (tokens, R, G, d)");
    const int64_t row = a.kv_heads * a.size;
    return {key.data, value.data, shape[0], a.rows * row, row, a.size};
  }

  float text_scale_;
};

}  // namespace

const OrtCustomOp& attention() {
  static const Operator<AttentionOp> op;
  return op;
}

}  // namespace flagdit::onnxruntime
