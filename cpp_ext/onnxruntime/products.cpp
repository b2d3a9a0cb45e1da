// Products with int8 weights, as operators.
#include "product_parts.h"

namespace flagdit::onnxruntime {
namespace {

struct LinearOp {
  static constexpr const char* kName = "Linear";
  static constexpr Inputs kInputs{
      {"x", "weights", "scales", "residual", "gates", "bias", "out_weight"}, bits(3, 7), 0b10};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};

  explicit LinearOp(const KernelInfo& info) : weights_(matrix(info, 1)), ending_(info, 3, 5) {}

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    Linear l{x.data, tokens_of(x, weights_.inputs())};
    const std::vector<int64_t> shape{x.shape[0], x.shape[1], weights_.outputs()};
    l.products[0] = ending_.read(context, weights_, shape);
    l.products[0].y = context.output(shape);
    context.parallel(tasks_of(l), [&](int64_t task) { run_linear(l, task); });
  }

 private:
  Int8Matrix weights_;
  Ending ending_;
};

class ProjectOp {
 public:
  static constexpr const char* kName = "Project";
  static constexpr Inputs kInputs{
      {"x", "norm_weight", "modulation", "wq", "scales_q", "wk", "scales_k", "wv", "scales_v",
       "cos", "sin", "q_weight", "q_bias", "k_weight", "k_bias", "bias_q", "bias_k", "bias_v"},
      bits(1, 3) | bits(9, 18),
      0b10101000};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat, kBf16, kBf16};

  explicit ProjectOp(const KernelInfo& info)
      : modulated_(info),
        weights_{matrix(info, 3), matrix(info, 5), matrix(info, 7)},
        size_(info.integer("size", 2)),
        each_head_(info.flag("each_head")),
        epsilon_(info.real("norm_epsilon", 0.0f)) {
    for (size_t i = 0; i < weights_.size(); ++i) {
      const Int8Matrix& w = weights_[i];
      const std::string name = kInputs.names[3 + 2 * i];
      if (size_ % 2 != 0 || w.outputs() % size_ != 0)
        refuse("size", std::to_string(size_),
               "an even divisor of the outputs of " + name + ", " + std::to_string(w.outputs()));
      need_size(name + ": inputs", w.inputs(), "the inputs of wq", weights_[0].inputs());
    }
  }

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    Linear l{x.data, tokens_of(x, weights_[0].inputs()), modulated_.read(context, x)};
    for (size_t i = 0; i < weights_.size(); ++i) {
      const int64_t heads = weights_[i].outputs() / size_;
      const std::vector<int64_t> shape{x.shape[0], x.shape[1], heads, size_};
      Product& p = l.products[i];
      p.weights = &weights_[i];
      p.bias = vector(context, 15 + i, weights_[i].outputs(), "as many as outputs");
      if (i < 2) {  // values are neither normed nor rotated
        p.rotary = rotary(context, l.tokens);
        p.norm = norm(context, 11 + 2 * i, weights_[i].outputs());
      }
      if (kOutputs[i] == kBf16)
        p.half = context.output<uint16_t>(shape, i);
      else
        p.y = context.output(shape, i);
    }
    context.parallel(tasks_of(l), [&](int64_t task) { run_linear(l, task); });
  }

 private:
  Rotary rotary(const Context& context, int64_t tokens) const {
    if (!context.has(9, 2)) return {};
    const View<float> cos = context.input(9), sin = context.input(10);
    const int64_t angles = product("cos", {tokens, size_ / 2});
    cos.need_count(angles, "(A, R, d / 2)");
    sin.need_count(angles, "(A, R, d / 2)");
    return {cos.data, sin.data, size_};
  }

  Norm norm(const Context& context, size_t at, int64_t width) const {
    if (each_head_ != 0) {  // RMSNorm
      if (context.has(at + 1, 1)) refuse(kInputs.names[at + 1], "one", "none, with each_head");
      return {vector(context, at, size_, "(d), as wide as a head"), nullptr, epsilon_, size_};
    }
    if (!context.has(at, 2)) return {};
    return {vector(context, at, width, "as many as outputs"),
            vector(context, at + 1, width, "as many as outputs"), epsilon_};
  }

  Modulated modulated_;
  std::array<Int8Matrix, 3> weights_;
  int64_t size_, each_head_;
  float epsilon_;
};

}  // namespace

const OrtCustomOp& linear() {
  static const Operator<LinearOp> op;
  return op;
}

const OrtCustomOp& project() {
  static const Operator<ProjectOp> op;
  return op;
}

}  // namespace flagdit::onnxruntime
