// ONNX Runtime's C interface for operators, as far as the kernels need it: tensors on the CPU, work
// in parallel, and exceptions that become statuses.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "flagdit/linear.h"

namespace flagdit::onnxruntime {

const OrtApi& api();  // of the version that this was compiled for

void check(OrtStatus* status);  // throws std::runtime_error
inline void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

template <typename T>
struct View {
  const T* data;
  std::vector<int64_t> shape;

  size_t rank() const { return shape.size(); }
  int64_t count() const {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    return n;
  }
};

class KernelInfo {
 public:
  explicit KernelInfo(const OrtKernelInfo* info) : info_(info) {}
  template <typename T>
  View<T> constant(size_t input) const {  // throws unless it is an initializer
    const View<void> value = tensor(input);
    return {static_cast<const T*>(value.data), value.shape};
  }
  int64_t integer(const char* attribute) const;
  float real(const char* attribute) const;
  int64_t integer(const char* attribute, int64_t absent) const;
  float real(const char* attribute, float absent) const;
  const OrtKernelInfo* raw() const { return info_; }

 private:
  View<void> tensor(size_t input) const;

  const OrtKernelInfo* info_;
};

// One call of an operator.
class Context {
 public:
  explicit Context(OrtKernelContext* context) : context_(context) {}
  bool has(size_t input) const;
  const OrtKernelContext* raw() const { return context_; }
  template <typename T = float>
  View<T> input(size_t input) const {
    const View<void> value = tensor(input);
    return {static_cast<const T*>(value.data), value.shape};
  }
  template <typename T = float>
  T* output(const std::vector<int64_t>& shape, size_t number = 0) {
    return static_cast<T*>(make(number, shape));
  }
  void parallel(int64_t tasks, const std::function<void(int64_t)>& run) const;

 private:
  View<void> tensor(size_t input) const;
  void* make(size_t output, const std::vector<int64_t>& shape);

  OrtKernelContext* context_;
};

constexpr unsigned bits(size_t from, size_t to) { return (1u << to) - (1u << from); }

// How many inputs there are, and by bit which are optional, int8 and bf16; the others are f32.
struct Inputs {
  size_t count;
  unsigned optional = 0, int8 = 0, bf16 = 0;

  constexpr ONNXTensorElementDataType type(size_t input) const {
    return int8 >> input & 1   ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8
           : bf16 >> input & 1 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16
                               : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
};

OrtStatus* failed(const char* name, const std::exception& error);

// Op has kName, kInputs, an array kOutputs of types, a constructor from KernelInfo and `void
// compute(Context&) const`.
template <typename Op>
struct Operator : OrtCustomOp {
  Operator() : OrtCustomOp{} {
    version = ORT_API_VERSION;
    GetName = [](const OrtCustomOp*) { return Op::kName; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
    GetInputTypeCount = [](const OrtCustomOp*) { return Op::kInputs.count; };
    GetInputType = [](const OrtCustomOp*, size_t i) { return Op::kInputs.type(i); };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t i) {
      return Op::kInputs.optional >> i & 1 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
    };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    GetOutputTypeCount = [](const OrtCustomOp*) { return std::size(Op::kOutputs); };
    GetOutputType = [](const OrtCustomOp*, size_t i) { return Op::kOutputs[i]; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
    CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info,
                        void** kernel) {
      return guarded([&] { *kernel = new Op(KernelInfo(info)); });
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
      return guarded([&] {
        Context call(context);
        static_cast<const Op*>(kernel)->compute(call);
      });
    };
    KernelDestroy = [](void* kernel) { delete static_cast<Op*>(kernel); };
  }

 private:
  template <typename F>
  static OrtStatus* guarded(const F& f) {
    try {
      f();
      return nullptr;
    } catch (const std::exception& error) {
      return failed(Op::kName, error);
    }
  }
};

constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto kBf16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;

// Vectors of an input (R, ..., N) or (N): one of those that each row has.
struct Rows {
  const float* data;
  int64_t rows, stride;
};
Rows rows_of(const View<float>& x, int64_t which, int64_t rows, int64_t width);

const OrtCustomOp& attention();
const OrtCustomOp& blocked_attention();
const OrtCustomOp& feed_forward();
const OrtCustomOp& linear();
const OrtCustomOp& project();

}  // namespace flagdit::onnxruntime
