// Attention to cached tokens and to the text, as operators.
#include "flagdit/attention.h"

#include "flagdit/bf16.h"
#include "operators.h"

namespace flagdit::onnxruntime {
namespace {

// All but keys, values and bias. Inputs 0 and 1 are the query and the scale.
Attention describe(const Context& context, int64_t kv_heads) {
  const View<float> query = context.input(0), scale = context.input(1);
  require(scale.count() == 1 && kv_heads > 0, "there must be one scale and a key head");
  require(query.rank() == 4, "the query must be (A, R, H, d)");
  Attention a{};
  a.query = query.data, a.scale = scale.data[0];
  a.active = query.shape[0], a.rows = query.shape[1];
  a.heads = query.shape[2], a.size = query.shape[3], a.kv_heads = kv_heads;
  require(a.heads % kv_heads == 0, "query heads must be a multiple of key heads");
  return a;
}

// Computes what is described, and residual + gate * that, if inputs `residual_at` and the next are
// there.
void attend(Context& context, Attention& a, size_t residual_at) {
  const std::vector<int64_t> shape{a.active, a.rows, a.heads * a.size};
  a.residual = residual(context, residual_at, shape);
  a.out = context.output(shape);
  if (a.active * a.rows == 0) return;
  require(a.head.count + a.tail.count > 0, "there must be a key");
  context.parallel(attention_tasks(a), [&](int64_t task) { run_attention(a, task); });
}

struct AttentionOp {
  static constexpr const char* kName = "Attention";
  static constexpr Inputs kInputs{6, 4, 0, 0b111100};
  static constexpr auto kOutput = kFloat;

  explicit AttentionOp(const KernelInfo&) {}

  void compute(Context& context) const {
    const Keys key = context.input<uint16_t>(2), value = context.input<uint16_t>(3);
    require(key.rank() == 4, "keys must be (tokens, R, G, d)");
    Attention a = describe(context, key.shape[2]);
    a.head = pair(a, key, value);
    if (context.has(4)) a.tail = pair(a, context.input<uint16_t>(4), context.input<uint16_t>(5));
    attend(context, a, kInputs.count);
  }

 private:
  using Keys = View<uint16_t>;

  static KeyValues pair(const Attention& a, const Keys& key, const Keys& value) {
    const std::vector<int64_t> shape{key.shape[0], a.rows, a.kv_heads, a.size};
    require(key.shape == shape && value.shape == shape,
            "keys and values must be (tokens, R, G, d)");
    return {key.data, value.data, shape[0]};
  }
};

struct TextAttentionOp {
  static constexpr const char* kName = "TextAttention";
  static constexpr Inputs kInputs{7, 5};
  static constexpr auto kOutput = kFloat;

  explicit TextAttentionOp(const KernelInfo&) {}

  void compute(Context& context) const {
    const View<float> key = context.input(2), value = context.input(3), bias = context.input(4);
    require(key.rank() == 4 && key.shape == value.shape, "keys and values must be (R, G, T, d)");
    Attention a = describe(context, key.shape[1]);
    const int64_t text = key.shape[2];
    require(key.shape[0] == a.rows && key.shape[3] == a.size,
            "keys and values must be (R, G, T, d)");
    require(bias.count() == a.rows * text, "the bias must be (R, T)");
    const std::vector<uint16_t> keys = tokens_first(key), values = tokens_first(value);
    a.head = {keys.data(), values.data(), text};
    a.bias = bias.data;
    attend(context, a, 5);
  }

 private:
  // (R, G, T, d) -> (T, R * G, d) in bf16: a text is a few tokens.
  static std::vector<uint16_t> tokens_first(const View<float>& x) {
    const int64_t heads = x.shape[0] * x.shape[1], tokens = x.shape[2], size = x.shape[3];
    std::vector<uint16_t> out(x.count());
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t token = 0; token < tokens; ++token) {
        const float* from = x.data + (head * tokens + token) * size;
        uint16_t* to = out.data() + (token * heads + head) * size;
        for (int64_t i = 0; i < size; ++i) to[i] = to_bf16(from[i]);
      }
    }
    return out;
  }
};

}  // namespace

const OrtCustomOp& attention() {
  static const Operator<AttentionOp> op;
  return op;
}

const OrtCustomOp& text_attention() {
  static const Operator<TextAttentionOp> op;
  return op;
}

}  // namespace flagdit::onnxruntime
