// Products with int8 weights, as operators.
#include "flagdit/linear.h"
#include "operators.h"

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

// Inputs 1 and 2, the norm's weight (K) and the modulation (R, ..., K), if they are there;
// attributes that say which of a row's vectors are scale and shift.
class Modulated {
 public:
  explicit Modulated(const KernelInfo& info)
      : scale_(info.integer("scale")),
        shift_(info.integer("shift")),
        epsilon_(info.real("epsilon")) {}

  Modulation read(const Context& context, const View<float>& x) const {
    if (!context.has(1)) return {};
    const View<float> weight = context.input(1), all = context.input(2);
    const int64_t width = x.shape[2];
    require(weight.count() == width, "the norm must be as wide as x");
    const Rows scale = rows_of(all, scale_, x.shape[1], width);
    const Rows shift = rows_of(all, shift_, x.shape[1], width);
    return {weight.data, scale.data, shift.data, scale.rows, scale.stride, epsilon_};
  }

 private:
  int64_t scale_, shift_;
  float epsilon_;
};

// Inputs `at` and `at` + 1, what is added to and the gate (R, ..., N) or (N), if they are there; an
// attribute that says which of a row's vectors the gate is.
class Gated {
 public:
  Gated(const KernelInfo& info, size_t at) : at_(at), gate_(info.integer("gate")) {}

  Residual read(const Context& context, const std::vector<int64_t>& shape) const {
    if (!context.has(at_)) return {};
    const View<float> x = context.input(at_);
    require(x.shape == shape, "the residual must have the output's shape");
    const Rows gate = rows_of(context.input(at_ + 1), gate_, shape[1], shape[2]);
    return {x.data, gate.data, gate.rows, gate.stride};
  }

 private:
  size_t at_;
  int64_t gate_;
};

struct LinearOp {
  static constexpr const char* kName = "Linear";
  static constexpr Inputs kInputs{5, bits(3, 5), 0b10};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};

  explicit LinearOp(const KernelInfo& info) : weights_(matrix(info, 1)), gated_(info, 3) {}

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    const std::vector<int64_t> shape = out_shape(x, weights_.inputs(), weights_.outputs());
    Linear l{x.data, shape[0] * shape[1]};
    l.products[0] = {&weights_, context.output(shape)};
    l.products[0].residual = gated_.read(context, shape);
    context.parallel(linear_tasks(l.tokens), [&](int64_t task) { run_linear(l, task); });
  }

 private:
  Int8Matrix weights_;
  Gated gated_;
};

class ProjectOp {
 public:
  static constexpr const char* kName = "Project";
  static constexpr Inputs kInputs{15, bits(1, 3) | bits(9, 15), 0b10101000};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat, kBf16, kBf16};

  explicit ProjectOp(const KernelInfo& info)
      : modulated_(info),
        weights_{matrix(info, 3), matrix(info, 5), matrix(info, 7)},
        size_(info.integer("size")),
        epsilon_(info.real("norm_epsilon")) {
    for (const Int8Matrix& w : weights_) {
      require(size_ > 0 && size_ % 2 == 0 && w.outputs() % size_ == 0,
              "an even head size must divide the outputs");
      require(w.inputs() == weights_[0].inputs(), "the weights must have the same inputs");
    }
  }

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    out_shape(x, weights_[0].inputs(), 0);
    Linear l{x.data, x.shape[0] * x.shape[1], modulated_.read(context, x)};
    for (size_t i = 0; i < weights_.size(); ++i) {
      const int64_t heads = weights_[i].outputs() / size_;
      const std::vector<int64_t> shape{x.shape[0], x.shape[1], heads, size_};
      Product& p = l.products[i];
      p.weights = &weights_[i];
      if (kOutputs[i] == kBf16)
        p.half = context.output<uint16_t>(shape, i);
      else
        p.y = context.output(shape, i);
      if (i == 2) continue;  // values are neither normed nor rotated
      p.rotary = rotary(context, l.tokens);
      p.norm = norm(context, 11 + 2 * i, weights_[i].outputs());
    }
    context.parallel(linear_tasks(l.tokens), [&](int64_t task) { run_linear(l, task); });
  }

 private:
  Rotary rotary(const Context& context, int64_t tokens) const {
    if (!context.has(9)) return {};
    const View<float> cos = context.input(9), sin = context.input(10);
    const int64_t angles = tokens * size_ / 2;
    require(cos.count() == angles && sin.count() == angles, "cos and sin must be (A, R, d / 2)");
    return {cos.data, sin.data, size_};
  }

  LayerNorm norm(const Context& context, size_t at, int64_t width) const {
    if (!context.has(at)) return {};
    const View<float> weight = context.input(at), bias = context.input(at + 1);
    require(weight.count() == width && bias.count() == width,
            "the norm must be as wide as the output");
    return {weight.data, bias.data, epsilon_};
  }

  Modulated modulated_;
  std::array<Int8Matrix, 3> weights_;
  int64_t size_;
  float epsilon_;
};

struct FeedForwardOp {
  static constexpr const char* kName = "FeedForward";
  static constexpr Inputs kInputs{11, bits(1, 3) | bits(9, 11), 0b10101000};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};

  explicit FeedForwardOp(const KernelInfo& info)
      : modulated_(info),
        w1_(matrix(info, 3)),
        w2_(matrix(info, 5)),
        w3_(matrix(info, 7)),
        gated_(info, 9) {
    require(w1_.outputs() == w3_.outputs() && w1_.inputs() == w3_.inputs() &&
                w2_.inputs() == w1_.outputs(),
            "w1, w2 and w3 must fit each other");
  }

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    const std::vector<int64_t> shape = out_shape(x, w1_.inputs(), w2_.outputs());
    FeedForward f{x.data, shape[0] * shape[1], &w1_, &w2_, &w3_, context.output(shape)};
    f.modulation = modulated_.read(context, x);
    f.residual = gated_.read(context, shape);
    context.parallel(linear_tasks(f.tokens), [&](int64_t task) { run_feed_forward(f, task); });
  }

 private:
  Modulated modulated_;
  Int8Matrix w1_, w2_, w3_;
  Gated gated_;
};

}  // namespace

Rows rows_of(const View<float>& x, int64_t which, int64_t rows, int64_t width) {
  const int64_t own = x.rank() > 1 ? rows : 1;  // or one for all
  require(x.rank() > 0 && own > 0 && x.count() % own == 0 && (x.rank() == 1 || x.shape[0] == own) &&
              x.shape.back() == width,
          "vectors must be (R, ..., N) or (N)");
  const int64_t stride = x.count() / own;
  require(which >= 0 && (which + 1) * width <= stride, "there are fewer vectors than that");
  return {x.data + which * width, own, stride};
}

const OrtCustomOp& feed_forward() {
  static const Operator<FeedForwardOp> op;
  return op;
}

const OrtCustomOp& linear() {
  static const Operator<LinearOp> op;
  return op;
}

const OrtCustomOp& project() {
  static const Operator<ProjectOp> op;
  return op;
}

}  // namespace flagdit::onnxruntime
