// What operators with int8 weights have in common: parts that come before and after a product.
#pragma once

#include <string>

#include "flagdit/linear.h"
#include "operators.h"

namespace flagdit::onnxruntime {

// Weights at `input` and their scales behind them.
Int8Matrix matrix(const KernelInfo& info, size_t input);

void need_size(const std::string& what, int64_t got, const char* of, int64_t allowed);

// x must be (A, R, inputs); how many tokens, A * R, that is.
int64_t tokens_of(const View<float>& x, int64_t inputs);

// An input (N), or null if it is left out.
const float* vector(const Context& context, size_t input, int64_t count, const char* form);

// Inputs 1 and 2, the norm's weight (K) and the modulation (R, ..., K), if they are there;
// attributes that say which of a row's vectors are scale and shift (-1: none), and the kind of norm.
class Modulated {
 public:
  explicit Modulated(const KernelInfo& info);
  Modulation read(const Context& context, const View<float>& x) const;

 private:
  int64_t scale_, shift_, centred_;
  float epsilon_;
};

// Inputs `at` and `at` + 1, what is added to and the gate (R, ..., N) or (N), if they are there; an
// attribute that says which of a row's vectors the gate is.
class Gated {
 public:
  Gated(const KernelInfo& info, size_t at) : at_(at), gate_(info.integer("gate")) {}
  Residual read(const Context& context, const std::vector<int64_t>& shape) const;

 private:
  size_t at_;
  int64_t gate_;
};

// The end of a layer: a bias (N), an RMSNorm's weight (N) and a gated residual, as far as they are
// there. Two inputs at `at`, the bias and the weight behind each other at `more`.
class Ending {
 public:
  Ending(const KernelInfo& info, size_t at, size_t more)
      : gated_(info, at), more_(more), epsilon_(info.real_or("out_epsilon", 0.0f)) {}
  Product read(const Context& context, const Int8Matrix& weights,
               const std::vector<int64_t>& shape) const;

 private:
  Gated gated_;
  size_t more_;
  float epsilon_;
};

}  // namespace flagdit::onnxruntime
