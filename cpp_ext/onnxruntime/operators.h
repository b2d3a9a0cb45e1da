// ONNX Runtime's C interface for operators, as far as the kernels need it: f32 tensors on the CPU,
// int8 constants, one output, work in parallel, and exceptions that become statuses.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace flagdit::onnxruntime {

const OrtApi& api();  // of the version that this was compiled for

void check(OrtStatus* status);  // throws std::runtime_error
inline void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

struct Constant {
  const void* data;
  std::vector<int64_t> shape;

  int64_t count() const {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    return n;
  }
};

struct View {
  const float* data;
  std::vector<int64_t> shape;

  size_t rank() const { return shape.size(); }
  int64_t count() const { return Constant{data, shape}.count(); }
};

class KernelInfo {
 public:
  explicit KernelInfo(const OrtKernelInfo* info) : info_(info) {}
  Constant constant(size_t input) const;  // throws unless it is an initializer
  int64_t integer(const char* attribute) const;
  float real(const char* attribute) const;

 private:
  const OrtKernelInfo* info_;
};

// One call of an operator.
class Context {
 public:
  explicit Context(OrtKernelContext* context) : context_(context) {}
  bool has(size_t input) const;
  View input(size_t input) const;
  float* output(const std::vector<int64_t>& shape);
  void parallel(int64_t tasks, const std::function<void(int64_t)>& run) const;

 private:
  OrtKernelContext* context_;
};

// How many inputs there are, how many of them at least, and which are int8 (by bit); the others are
// f32.
struct Inputs {
  size_t count, needed;
  unsigned int8;
};

OrtStatus* failed(const char* name, const std::exception& error);

// Op has kName, kInputs, a constructor from KernelInfo and `void compute(Context&) const`.
template <typename Op>
struct Operator : OrtCustomOp {
  Operator() : OrtCustomOp{} {
    version = ORT_API_VERSION;
    GetName = [](const OrtCustomOp*) { return Op::kName; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
    GetInputTypeCount = [](const OrtCustomOp*) { return Op::kInputs.count; };
    GetInputType = [](const OrtCustomOp*, size_t i) {
      return Op::kInputs.int8 >> i & 1 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t i) {
      return i < Op::kInputs.needed ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
    };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
    GetOutputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
    CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
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

const std::vector<const OrtCustomOp*>& operators();

}  // namespace flagdit::onnxruntime
