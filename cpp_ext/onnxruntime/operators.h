// ONNX Runtime's C interface for operators, as far as the kernels need it: tensors on the CPU, work
// in parallel, and exceptions that become statuses.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <vector>

#include "view.h"

namespace flagdit::onnxruntime {

// Of the runtime that is calling, of the version that this was compiled for: a process may have
// two, such as that of Python's package and the one a program links.
const OrtApi& api();

// Whose calls this thread answers, as long as it lives.
class Answering {
 public:
  explicit Answering(const OrtApi* api);
  ~Answering();
  Answering(const Answering&) = delete;
  Answering& operator=(const Answering&) = delete;

 private:
  const OrtApi* before_;
};

void check(OrtStatus* status);  // throws std::runtime_error

constexpr unsigned bits(size_t from, size_t to) { return (1u << to) - (1u << from); }

// What the inputs are called, and by bit which are optional, int8 and bf16; the others are f32.
struct Inputs {
  const char* names[20];
  unsigned optional = 0, int8 = 0, bf16 = 0;

  constexpr size_t count() const {
    size_t n = 0;
    while (n < std::size(names) && names[n] != nullptr) ++n;
    return n;
  }
  constexpr ONNXTensorElementDataType type(size_t input) const {
    return int8 >> input & 1   ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8
           : bf16 >> input & 1 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16
                               : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
};

Viewed viewed(const OrtValue* value, const char* name);
void* data_of(const OrtValue* value);

class KernelInfo {
 public:
  KernelInfo(const OrtKernelInfo* info, const Inputs& inputs) : info_(info), inputs_(inputs) {}
  template <typename T>
  View<T> constant(size_t input) const {  // throws unless it is an initializer
    const OrtValue* value = tensor(input);
    return {viewed(value, inputs_.names[input]), data_of(value)};
  }
  // Throw unless there is such an attribute, in the range.
  int64_t integer(const char* attribute, int64_t least = 0) const;
  float real(const char* attribute, float least = std::numeric_limits<float>::lowest()) const;
  // Those that graphs of before they were there do not have.
  int64_t flag(const char* attribute) const;                  // 0 or 1; 0 without it
  float real_or(const char* attribute, float without) const;  // at least 0
  bool given(size_t input) const;                             // whether it is not left out
  std::string called(size_t input) const;                     // as the graph does; empty without it
  const OrtKernelInfo* raw() const { return info_; }

 private:
  const OrtValue* tensor(size_t input) const;

  const OrtKernelInfo* info_;
  const Inputs& inputs_;
};

// One call of an operator.
class Context {
 public:
  Context(OrtKernelContext* context, const Inputs& inputs) : context_(context), inputs_(inputs) {}
  // Whether optional inputs that belong together are there; throws if some are and others are not.
  bool has(size_t first, size_t count) const;
  template <typename T = float>
  View<T> input(size_t input) const {
    const OrtValue* value = tensor(input);
    return {viewed(value, inputs_.names[input]), data_of(value)};
  }
  template <typename T = float>
  T* output(const std::vector<int64_t>& shape, size_t number = 0) {
    return static_cast<T*>(make(number, shape));
  }
  // Throws what a task throws; the tasks that have not begun by then do not.
  void parallel(int64_t tasks, const std::function<void(int64_t)>& run) const;
  const OrtKernelContext* raw() const { return context_; }

 private:
  const OrtValue* find(size_t input) const;  // null if it is left out
  const OrtValue* tensor(size_t input) const;
  void* make(size_t output, const std::vector<int64_t>& shape);

  OrtKernelContext* context_;
  const Inputs& inputs_;
};

OrtStatus* failed(const char* name, const std::exception& error);

// Op has kName, kInputs, an array kOutputs of types, a
// constructor from KernelInfo and `void compute(Context&) const`.
template <typename Op>
struct Operator : OrtCustomOp {
  Operator() : OrtCustomOp{} {
    version = ORT_API_VERSION;
    GetName = [](const OrtCustomOp*) { return Op::kName; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
    GetInputTypeCount = [](const OrtCustomOp*) { return Op::kInputs.count(); };
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
    CreateKernelV2 = [](const OrtCustomOp*, const OrtApi* from, const OrtKernelInfo* info,
                        void** kernel) {
      const Answering answering(from);
      return guarded([&] { *kernel = new Kernel{from, Op(KernelInfo(info, Op::kInputs))}; });
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
      const auto& own = *static_cast<const Kernel*>(kernel);
      const Answering answering(own.api);
      return guarded([&] {
        Context call(context, Op::kInputs);
        own.op.compute(call);
      });
    };
    KernelDestroy = [](void* kernel) {
      const Answering answering(static_cast<const Kernel*>(kernel)->api);
      delete static_cast<Kernel*>(kernel);
    };
  }

 private:
  struct Kernel {
    const OrtApi* api;
    Op op;
  };

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

const OrtCustomOp& attention();
const OrtCustomOp& blocked_attention();
const OrtCustomOp& feed_forward();
const OrtCustomOp& linear();
const OrtCustomOp& project();

}  // namespace flagdit::onnxruntime
