// Products with int8 weights, as operators.
#include "flagdit/linear.h"
#include "operators.h"

namespace flagdit::onnxruntime {
namespace {

Int8Matrix matrix(const KernelInfo& info, size_t input) {
  const auto weights = info.constant<int8_t>(input);
  const auto scales = info.constant<float>(input + 1);
  const char* form = "int8 (N, K), both 1 or more";
  weights.need_rank(2, form);
  const int64_t outputs = weights.some(0), inputs = weights.some(1);
  check_range(std::string(weights.name) + ": outputs", outputs, 1, Int8Matrix::kMostOutputs);
  check_range(std::string(weights.name) + ": inputs", inputs, 1, Int8Matrix::kMostInputs);
  scales.need_count(outputs, "(N, 1), one for each output of the weights");
  return {weights.data, scales.data, outputs, inputs};
}

void need_size(const std::string& what, int64_t got, const char* of, int64_t allowed) {
  if (got != allowed) refuse(what, std::to_string(got), of + (", " + std::to_string(allowed)));
}

// x must be (A, R, inputs); how many tokens, A * R, that is.
int64_t tokens_of(const View<float>& x, int64_t inputs) {
  x.need_shape({kAny, kAny, inputs}, "(A, R, the weights' inputs)");
  return product(x.name, {x.shape[0], x.shape[1]});
}

// Vectors of an input (R, ..., N) or (N): one of those that each row has.
struct Rows {
  const float* data;
  int64_t rows, stride;
};

Rows rows_of(const View<float>& x, const char* attribute, int64_t which, int64_t rows,
             int64_t width) {
  const size_t rank = x.rank();
  if (rank == 0 || x.shape.back() != width || (rank > 1 && x.shape[0] != rows))
    x.refuse_shape("(R, ..., N) or (N), here R = " + std::to_string(rows) +
                   " and N = " + std::to_string(width));
  const int64_t vectors = rank < 3 ? 1 : product(x.name, x.shape.data() + 1, rank - 2);
  if (vectors == 0) x.refuse_shape("a vector or more in a row");
  check_range(attribute, which, 0, vectors - 1);
  if (rank == 1 || rows == 0) return {x.data, 1, 0};
  return {x.data + which * width, rows, product(x.name, {vectors, width})};
}

// Inputs 1 and 2, the norm's weight (K) and the modulation (R, ..., K), if they are there;
// attributes that say which of a row's vectors are scale and shift.
class Modulated {
 public:
  explicit Modulated(const KernelInfo& info)
      : scale_(info.integer("scale")),
        shift_(info.integer("shift")),
        epsilon_(info.real("epsilon", 0.0f)) {}

  Modulation read(const Context& context, const View<float>& x) const {
    if (!context.has(1, 2)) return {};
    const View<float> weight = context.input(1), all = context.input(2);
    const int64_t width = x.shape[2];
    weight.need_count(width, "(K), as wide as x");
    const Rows scale = rows_of(all, "scale", scale_, x.shape[1], width);
    const Rows shift = rows_of(all, "shift", shift_, x.shape[1], width);
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
    if (!context.has(at_, 2)) return {};
    const View<float> x = context.input(at_);
    x.need_shape(shape, "the output's shape");
    const Rows gate = rows_of(context.input(at_ + 1), "gate", gate_, shape[1], shape[2]);
    return {x.data, gate.data, gate.rows, gate.stride};
  }

 private:
  size_t at_;
  int64_t gate_;
};

struct LinearOp {
  static constexpr const char* kName = "Linear";
  static constexpr Inputs kInputs{
      {"x", "weights", "scales", "residual", "gates"}, bits(3, 5), 0b10};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};

  explicit LinearOp(const KernelInfo& info) : weights_(matrix(info, 1)), gated_(info, 3) {}

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    Linear l{x.data, tokens_of(x, weights_.inputs())};
    const std::vector<int64_t> shape{x.shape[0], x.shape[1], weights_.outputs()};
    l.products[0].weights = &weights_;
    l.products[0].residual = gated_.read(context, shape);
    l.products[0].y = context.output(shape);
    context.parallel(linear_tasks(l.tokens), [&](int64_t task) { run_linear(l, task); });
  }

 private:
  Int8Matrix weights_;
  Gated gated_;
};

class ProjectOp {
 public:
  static constexpr const char* kName = "Project";
  static constexpr Inputs kInputs{
      {"x", "norm_weight", "modulation", "wq", "scales_q", "wk", "scales_k", "wv", "scales_v",
       "cos", "sin", "q_weight", "q_bias", "k_weight", "k_bias"},
      bits(1, 3) | bits(9, 15),
      0b10101000};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat, kBf16, kBf16};

  explicit ProjectOp(const KernelInfo& info)
      : modulated_(info),
        weights_{matrix(info, 3), matrix(info, 5), matrix(info, 7)},
        size_(info.integer("size", 2)),
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
      if (i < 2) {  // values are neither normed nor rotated
        p.rotary = rotary(context, l.tokens);
        p.norm = norm(context, 11 + 2 * i, weights_[i].outputs());
      }
      if (kOutputs[i] == kBf16)
        p.half = context.output<uint16_t>(shape, i);
      else
        p.y = context.output(shape, i);
    }
    context.parallel(linear_tasks(l.tokens), [&](int64_t task) { run_linear(l, task); });
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

  LayerNorm norm(const Context& context, size_t at, int64_t width) const {
    if (!context.has(at, 2)) return {};
    const View<float> weight = context.input(at), bias = context.input(at + 1);
    weight.need_count(width, "as many as outputs");
    bias.need_count(width, "as many as outputs");
    return {weight.data, bias.data, epsilon_};
  }

  Modulated modulated_;
  std::array<Int8Matrix, 3> weights_;
  int64_t size_;
  float epsilon_;
};

struct FeedForwardOp {
  static constexpr const char* kName = "FeedForward";
  static constexpr Inputs kInputs{{"x", "norm_weight", "modulation", "w1", "scales1", "w2",
                                   "scales2", "w3", "scales3", "residual", "gates"},
                                  bits(1, 3) | bits(9, 11),
                                  0b10101000};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};

  explicit FeedForwardOp(const KernelInfo& info)
      : modulated_(info),
        w1_(matrix(info, 3)),
        w2_(matrix(info, 5)),
        w3_(matrix(info, 7)),
        gated_(info, 9) {
    need_size("w2: inputs", w2_.inputs(), "the outputs of w1", w1_.outputs());
    need_size("w3: outputs", w3_.outputs(), "the outputs of w1", w1_.outputs());
    need_size("w3: inputs", w3_.inputs(), "the inputs of w1", w1_.inputs());
  }

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    FeedForward f{x.data, tokens_of(x, w1_.inputs()), &w1_, &w2_, &w3_, nullptr};
    const std::vector<int64_t> shape{x.shape[0], x.shape[1], w2_.outputs()};
    f.modulation = modulated_.read(context, x);
    f.residual = gated_.read(context, shape);
    f.y = context.output(shape);
    context.parallel(linear_tasks(f.tokens), [&](int64_t task) { run_feed_forward(f, task); });
  }

 private:
  Modulated modulated_;
  Int8Matrix w1_, w2_, w3_;
  Gated gated_;
};

}  // namespace

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
