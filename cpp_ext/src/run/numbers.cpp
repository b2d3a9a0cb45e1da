// Whether what a run computes are numbers still: a picture of infinities and NaNs would be black.
#include <cmath>
#include <string>

#include "flagdit/conditions.h"
#include "flagdit/error.h"

namespace flagdit {

void refuse_numbers(int64_t broken, const std::string& of, const std::string& what,
                    const std::string& when, const std::string& engine,
                    const std::string& precision) {
  std::string advice =
      "export the model again with --dtype float32 (or bfloat16), then flagdit build";
  if (precision != "float32")
    advice = "try another engine with --precision float32; if that does not help, " + advice;
  throw Error(Fault::number, when + ": " + what + " has " + std::to_string(broken) + of +
                                 " values that are not finite, computed by " + engine + " in " +
                                 precision + "; " + advice);
}

void check_numbers(const Tensor& values, const std::string& what, const std::string& when,
                   const std::string& engine, const std::string& precision) {
  if (values.dtype != DType::f32) return;
  const int64_t count = bytes_of(values.dtype, values.shape) / 4;
  const auto* x = values.as<float>();
  // A product with 0 is 0 for all numbers and a NaN for all else: one pass without branches.
  float sum = 0.0f;
  for (int64_t i = 0; i < count; ++i) sum += x[i] * 0.0f;
  if (sum == 0.0f) return;
  int64_t broken = 0;
  for (int64_t i = 0; i < count; ++i) broken += !std::isfinite(x[i]);
  refuse_numbers(broken, " of " + std::to_string(count), what, when, engine, precision);
}

}  // namespace flagdit
