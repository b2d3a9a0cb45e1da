// The CPU kernels as operators of ONNX Runtime, in the domain "flagdit": what a session finds with
// SessionOptions.register_custom_ops_library(path of this module). A tokens, R rows, M cached ones.
//
//   Attention(query (A, R, H, d), scale (1), keys (A, R, G, d), values, [key_tail (M, R, G, d),
//             value_tail]) -> (A, R, H * d)
//   TextAttention(query (A, R, H, d), scale (1), keys (R, G, T, d), values, bias (R, T), [residual,
//                 gate]) -> (A, R, H * d)
//   Linear(x (A, R, K), weights (N, K), scales (N, 1), [residual, gate]) -> (A, R, N)
//   Project(x (A, R, K), weights (N, K), scales (N, 1), [norm_weight (N), norm_bias], [cos (A, R,
//           d / 2), sin]; heads, epsilon) -> (A, R, heads, d), and ProjectHalf, which makes it bf16
//   FeedForward(x, w1, scales1, w2, scales2, w3, scales3, [residual, gate]) -> (A, R, N)
//   Modulate(x (A, R, K), weight (K), scale (R, K), shift (R, K); epsilon) -> (A, R, K)
//
// With a residual (A, R, N) and its gate (R, N) or (N) the output is residual + gate * output.
// Keys and values of Attention are bf16. Weights are int8 and must be initializers: they are laid
// out once, when the session is made.
#include "operators.h"

#include <algorithm>

#include "flagdit/linear.h"

namespace flagdit::onnxruntime {
namespace {

Int8Matrix matrix(const KernelInfo& info, size_t input) {
  const auto weights = info.constant<int8_t>(input);
  const auto scales = info.constant<float>(input + 1);
  require(weights.shape.size() == 2 && scales.count() == weights.shape[0], "one scale an output");
  return {weights.data, scales.data, weights.shape[0], weights.shape[1]};
}

// Checks x (A, R, inputs); returns (A, R, outputs).
std::vector<int64_t> out_shape(const View<float>& x, int64_t inputs, int64_t outputs) {
  require(x.rank() == 3 && x.shape[2] == inputs, "x must be (A, R, the weights' inputs)");
  return {x.shape[0], x.shape[1], outputs};
}

struct LinearOp {
  static constexpr const char* kName = "Linear";
  static constexpr Inputs kInputs{5, 3, 0b10};
  static constexpr auto kOutput = kFloat;

  explicit LinearOp(const KernelInfo& info) : weights_(matrix(info, 1)) {}

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    const std::vector<int64_t> shape = out_shape(x, weights_.inputs(), weights_.outputs());
    Linear l{x.data, &weights_, context.output(shape), shape[0] * shape[1]};
    l.residual = residual(context, 3, shape);
    context.parallel(linear_tasks(l.tokens), [&](int64_t task) { run_linear(l, task); });
  }

 private:
  Int8Matrix weights_;
};

template <ONNXTensorElementDataType Output>
struct ProjectOp {
  static constexpr const char* kName = Output == kBf16 ? "ProjectHalf" : "Project";
  static constexpr Inputs kInputs{7, 3, 0b10};
  static constexpr auto kOutput = Output;

  explicit ProjectOp(const KernelInfo& info)
      : weights_(matrix(info, 1)), heads_(info.integer("heads")), epsilon_(info.real("epsilon")) {
    require(heads_ > 0 && weights_.outputs() % (2 * heads_) == 0,
            "heads must divide the outputs, in pairs");
  }

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    const int64_t width = weights_.outputs(), size = width / heads_;
    const std::vector<int64_t> shape = out_shape(x, weights_.inputs(), width);
    const std::vector<int64_t> split{shape[0], shape[1], heads_, size};
    Linear l{x.data, &weights_, nullptr, shape[0] * shape[1]};
    if constexpr (Output == kBf16)
      l.half = context.output<uint16_t>(split);
    else
      l.y = context.output(split);
    if (context.has(3)) {
      const View<float> weight = context.input(3), bias = context.input(4);
      require(weight.count() == width && bias.count() == width,
              "the norm must be as wide as the output");
      l.norm = {weight.data, bias.data, epsilon_};
    }
    if (context.has(5)) {
      const View<float> cos = context.input(5), sin = context.input(6);
      const int64_t angles = l.tokens * size / 2;
      require(cos.count() == angles && sin.count() == angles, "cos and sin must be (A, R, d / 2)");
      l.rotary = {cos.data, sin.data, size};
    }
    context.parallel(linear_tasks(l.tokens), [&](int64_t task) { run_linear(l, task); });
  }

 private:
  Int8Matrix weights_;
  int64_t heads_;
  float epsilon_;
};

struct FeedForwardOp {
  static constexpr const char* kName = "FeedForward";
  static constexpr Inputs kInputs{9, 7, 0b101010};
  static constexpr auto kOutput = kFloat;

  explicit FeedForwardOp(const KernelInfo& info)
      : w1_(matrix(info, 1)), w2_(matrix(info, 3)), w3_(matrix(info, 5)) {
    require(w1_.outputs() == w3_.outputs() && w1_.inputs() == w3_.inputs() &&
                w2_.inputs() == w1_.outputs(),
            "w1, w2 and w3 must fit each other");
  }

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    const std::vector<int64_t> shape = out_shape(x, w1_.inputs(), w2_.outputs());
    FeedForward f{x.data, &w1_, &w2_, &w3_, context.output(shape), shape[0] * shape[1]};
    f.residual = residual(context, 7, shape);
    context.parallel(linear_tasks(f.tokens), [&](int64_t task) { run_feed_forward(f, task); });
  }

 private:
  Int8Matrix w1_, w2_, w3_;
};

struct ModulateOp {
  static constexpr const char* kName = "Modulate";
  static constexpr Inputs kInputs{4, 4};
  static constexpr auto kOutput = kFloat;

  explicit ModulateOp(const KernelInfo& info) : epsilon_(info.real("epsilon")) {}

  void compute(Context& context) const {
    const View<float> x = context.input(0), weight = context.input(1);
    const View<float> scale = context.input(2), shift = context.input(3);
    const std::vector<int64_t> shape = out_shape(x, weight.count(), weight.count());
    const int64_t rows = shape[1], width = shape[2];
    require(scale.count() == rows * width && shift.count() == rows * width,
            "scale and shift must be (R, K)");
    const Modulation m{x.data,          weight.data, scale.data, shift.data, context.output(shape),
                       shape[0] * rows, width,       rows,       epsilon_};
    context.parallel(linear_tasks(m.tokens), [&](int64_t task) { run_modulation(m, task); });
  }

 private:
  float epsilon_;
};

}  // namespace

Residual residual(const Context& context, size_t at, const std::vector<int64_t>& shape) {
  if (!context.has(at)) return {};
  const View<float> x = context.input(at), gate = context.input(at + 1);
  require(x.shape == shape, "the residual must have the output's shape");
  const int64_t width = shape.back(), rows = width > 0 ? gate.count() / width : 0;
  require(gate.count() == rows * width && (rows == 1 || rows == shape[1]),
          "the gate must be (R, N) or (N)");
  return {x.data, gate.data, rows};
}

const std::vector<const OrtCustomOp*>& operators() {
  static const Operator<FeedForwardOp> feed_forward;
  static const Operator<LinearOp> linear;
  static const Operator<ModulateOp> modulate;
  static const Operator<ProjectOp<kFloat>> project;
  static const Operator<ProjectOp<kBf16>> project_half;
  static const std::vector<const OrtCustomOp*> all{
      &attention(), &text_attention(), &feed_forward, &linear, &modulate, &project, &project_half};
  return all;
}

}  // namespace flagdit::onnxruntime
