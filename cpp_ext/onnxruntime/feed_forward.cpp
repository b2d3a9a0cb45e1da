// The feed-forward layer of a block, as an operator.
#include <optional>

#include "product_parts.h"

namespace flagdit::onnxruntime {
namespace {

class FeedForwardOp {
 public:
  static constexpr const char* kName = "FeedForward";
  static constexpr Inputs kInputs{
      {"x", "norm_weight", "modulation", "w1", "scales1", "w2", "scales2", "w3", "scales3",
       "residual", "gates", "bias1", "bias2", "out_weight"},
      bits(1, 3) | bits(7, 14),
      0b10101000};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};

  explicit FeedForwardOp(const KernelInfo& info)
      : modulated_(info), w1_(matrix(info, 3)), w2_(matrix(info, 5)), ending_(info, 9, 12) {
    need_size("w2: inputs", w2_.inputs(), "the outputs of w1", w1_.outputs());
    if (!info.given(7) && !info.given(8)) return;
    w3_.emplace(matrix(info, 7));
    need_size("w3: outputs", w3_->outputs(), "the outputs of w1", w1_.outputs());
    need_size("w3: inputs", w3_->inputs(), "the inputs of w1", w1_.inputs());
  }

  void compute(Context& context) const {
    const View<float> x = context.input(0);
    FeedForward f{x.data, tokens_of(x, w1_.inputs()), &w1_, w3_ ? &*w3_ : nullptr};
    if (w3_ && context.has(11, 1)) refuse("bias1", "one", "none, with w3");
    const std::vector<int64_t> shape{x.shape[0], x.shape[1], w2_.outputs()};
    f.bias = vector(context, 11, w1_.outputs(), "one for each output of w1");
    f.modulation = modulated_.read(context, x);
    f.out = ending_.read(context, w2_, shape);
    f.out.y = context.output(shape);
    context.parallel(tasks_of(f), [&](int64_t task) { run_feed_forward(f, task); });
  }

 private:
  Modulated modulated_;
  Int8Matrix w1_, w2_;
  std::optional<Int8Matrix> w3_;
  Ending ending_;
};

}  // namespace

const OrtCustomOp& feed_forward() {
  static const Operator<FeedForwardOp> op;
  return op;
}

}  // namespace flagdit::onnxruntime
