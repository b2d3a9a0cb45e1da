#include "product_parts.h"

#include "spent.h"

namespace flagdit::onnxruntime {
namespace {

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

}  // namespace

Int8Matrix matrix(const KernelInfo& info, size_t input) {
  const auto weights = info.constant<int8_t>(input);
  const auto scales = info.constant<float>(input + 1);
  const char* form = "int8 (N, K), both 1 or more";
  weights.need_rank(2, form);
  const int64_t outputs = weights.some(0), inputs = weights.some(1);
  check_range(std::string(weights.name) + ": outputs", outputs, 1, Int8Matrix::kMostOutputs);
  check_range(std::string(weights.name) + ": inputs", inputs, 1, Int8Matrix::kMostInputs);
  scales.need_count(outputs, "(N, 1), one for each output of the weights");
  Int8Matrix made(weights.data, scales.data, outputs, inputs);
  Spent::add(info.called(input), weights.data, static_cast<size_t>(outputs * inputs));
  return made;
}

void need_size(const std::string& what, int64_t got, const char* of, int64_t allowed) {
  if (got != allowed) refuse(what, std::to_string(got), of + (", " + std::to_string(allowed)));
}

int64_t tokens_of(const View<float>& x, int64_t inputs) {
  x.need_shape({kAny, kAny, inputs}, "(A, R, the weights' inputs)");
  return product(x.name, {x.shape[0], x.shape[1]});
}

const float* vector(const Context& context, size_t input, int64_t count, const char* form) {
  if (!context.has(input, 1)) return nullptr;
  const View<float> values = context.input(input);
  values.need_count(count, form);
  return values.data;
}

Modulated::Modulated(const KernelInfo& info)
    : scale_(info.integer("scale")),
      shift_(info.integer("shift", -1)),
      centred_(info.flag("centred")),
      epsilon_(info.real("epsilon", 0.0f)) {}

Modulation Modulated::read(const Context& context, const View<float>& x) const {
  if (!context.has(1, 2)) return {};
  const View<float> weight = context.input(1), all = context.input(2);
  const int64_t width = x.shape[2];
  weight.need_count(width, "(K), as wide as x");
  const Rows scale = rows_of(all, "scale", scale_, x.shape[1], width);
  const float* shift = shift_ < 0 ? nullptr : rows_of(all, "shift", shift_, x.shape[1], width).data;
  return {weight.data, scale.data, shift, scale.rows, scale.stride, epsilon_, centred_ != 0};
}

Residual Gated::read(const Context& context, const std::vector<int64_t>& shape) const {
  if (!context.has(at_, 2)) return {};
  const View<float> x = context.input(at_);
  x.need_shape(shape, "the output's shape");
  const Rows gate = rows_of(context.input(at_ + 1), "gate", gate_, shape[1], shape[2]);
  return {x.data, gate.data, gate.rows, gate.stride};
}

Product Ending::read(const Context& context, const Int8Matrix& weights,
                     const std::vector<int64_t>& shape) const {
  Product p{};
  p.weights = &weights;
  p.bias = vector(context, more_, shape[2], "(N), one for each output");
  p.norm = {vector(context, more_ + 1, shape[2], "(N), one for each output"), nullptr, epsilon_};
  p.residual = gated_.read(context, shape);
  return p;
}

}  // namespace flagdit::onnxruntime
