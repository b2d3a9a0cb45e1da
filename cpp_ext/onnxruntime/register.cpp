// The CPU kernels as operators of ONNX Runtime, in the domain "flagdit": what a session finds with
// SessionOptions.register_custom_ops_library(path of this module). A tokens, R rows, M cached ones.
//
//   Project(x (A, R, K), [norm_weight (K), modulation], wq, scales_q, wk, scales_k, wv, scales_v,
//           [cos (A, R, d / 2), sin], [q_weight (H * d), q_bias], [k_weight (G * d), k_bias],
//           [bias_q (H * d)], [bias_k], [bias_v];
//           epsilon, scale, shift, size, norm_epsilon, [centred], [each_head])
//       -> query (A, R, H, d), key (A, R, G, d), value (A, R, G, d)
//   Attention(query (A, R, H, d), scale (1), keys (A, R, G, d), values,
//             [key_tail (M, R, G, d), value_tail],
//             [text_keys (R, G, T, d), text_values, text_bias (R, T), text_gate (H * d)],
//             [bias (R, A + M)]; text_scale)
//       -> (A, R, H * d)
//   Linear(x (A, R, K), weights (N, K), scales (N, 1), [residual, gates], [bias (N)],
//          [out_weight (N)]; gate, [out_epsilon])
//       -> (A, R, N)
//   FeedForward(x, [norm_weight (K), modulation], w1, scales1, w2, scales2, [w3, scales3],
//               [residual, gates], [bias1], [bias2 (N)], [out_weight (N)];
//               epsilon, scale, shift, gate, [centred], [out_epsilon])
//       -> (A, R, N)
//
// With a norm and a modulation (R, ..., K), x becomes x / rms(x) * norm_weight * (1 + scale) + shift
// first: `scale` and `shift` number the vectors (K) of a row, and a `shift` of -1 is none. `centred`
// is LayerNorm: the mean goes off x before. `each_head`: q_weight and k_weight (d) are those of an
// RMSNorm of each head, without a bias, for those of a LayerNorm over all. Without w3 the hidden
// layer is gelu(x w1 + bias1). With out_weight the output is RMS-normalised, behind its bias. With a
// residual (A, R, N) and gates (R, ..., N) or (N), the output is residual + gate * output, and
// `gate` numbers them likewise. Keys and values are bf16, and their number that of `bias`, head and
// then tail. Weights are int8 and must be initializers: they are laid out once, when the session is
// made.
//
// A session whose configuration has the entry "flagdit.blocked_attention" also gets ONNX's own
// Attention (blocked_attention.cpp), in ONNX's domain.
#include <atomic>
#include <cmath>
#include <exception>
#include <map>
#include <mutex>
#include <string>

#include "operators.h"

namespace flagdit::onnxruntime {
namespace {

thread_local const OrtApi* answering = nullptr;

std::vector<int64_t> shape_of(const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api().GetTensorTypeAndShape(value, &info));
  size_t rank = 0;
  OrtStatus* status = api().GetDimensionsCount(info, &rank);
  std::vector<int64_t> shape(rank);
  if (status == nullptr) status = api().GetDimensions(info, shape.data(), rank);
  api().ReleaseTensorTypeAndShapeInfo(info);
  check(status);
  return shape;
}

[[noreturn]] void refuse_missing(OrtStatus* status, const char* attribute, const char* allowed) {
  api().ReleaseStatus(status);
  refuse(attribute, "none", allowed);
}

// The work of one call, which threads share.
struct Work {
  const std::function<void(int64_t)>& run;
  const OrtApi* from = &api();  // its threads answer to it
  std::atomic<bool> failed{false};
  std::exception_ptr error{};

  // An exception that left a thread of the runtime would end the process.
  void task(int64_t number) noexcept {
    if (failed.load(std::memory_order_relaxed)) return;
    const Answering answering(from);
    try {
      run(number);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  }
};

}  // namespace

Viewed viewed(const OrtValue* value, const char* name) { return {name, shape_of(value)}; }

void* data_of(const OrtValue* value) {
  void* data = nullptr;
  check(
      api().GetTensorMutableData(const_cast<OrtValue*>(value), &data));  // the only getter there is
  return data;
}

const OrtApi& api() { return *answering; }

Answering::Answering(const OrtApi* api) : before_(answering) { answering = api; }
Answering::~Answering() { answering = before_; }

void check(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = api().GetErrorMessage(status);
  api().ReleaseStatus(status);
  throw std::runtime_error(message);
}

OrtStatus* failed(const char* name, const std::exception& error) {
  return api().CreateStatus(ORT_FAIL,
                            (std::string("flagdit.") + name + ": " + error.what()).c_str());
}

const OrtValue* KernelInfo::tensor(size_t input) const {
  int constant = 0;
  const OrtValue* value = nullptr;
  check(api().KernelInfoGetConstantInput_tensor(info_, input, &constant, &value));
  if (constant == 0 || value == nullptr)
    refuse(inputs_.names[input], "what the graph computes", "an initializer");
  return value;
}

int64_t KernelInfo::integer(const char* attribute, int64_t least) const {
  int64_t value = 0;
  OrtStatus* status = api().KernelInfoGetAttribute_int64(info_, attribute, &value);
  if (status != nullptr) refuse_missing(status, attribute, "an integer");
  check_range(attribute, value, least, std::numeric_limits<int64_t>::max());
  return value;
}

float KernelInfo::real(const char* attribute, float least) const {
  float value = 0.0f;
  OrtStatus* status = api().KernelInfoGetAttribute_float(info_, attribute, &value);
  if (status != nullptr) refuse_missing(status, attribute, "a float");
  check_finite(attribute, value);
  if (value < least) refuse(attribute, std::to_string(value), std::to_string(least) + " or more");
  return value;
}

int64_t KernelInfo::flag(const char* attribute) const {
  int64_t value = 0;
  OrtStatus* status = api().KernelInfoGetAttribute_int64(info_, attribute, &value);
  if (status == nullptr) return check_range(attribute, value, 0, 1), value;
  api().ReleaseStatus(status);
  return 0;
}

float KernelInfo::real_or(const char* attribute, float without) const {
  float value = 0.0f;
  OrtStatus* status = api().KernelInfoGetAttribute_float(info_, attribute, &value);
  if (status == nullptr) return real(attribute, 0.0f);
  api().ReleaseStatus(status);
  return without;
}

bool KernelInfo::given(size_t input) const { return !called(input).empty(); }

std::string KernelInfo::called(size_t input) const {
  size_t count = 0, size = 0;
  check(api().KernelInfo_GetInputCount(info_, &count));
  if (input >= count) return "";
  check(api().KernelInfo_GetInputName(info_, input, nullptr, &size));  // with its end
  std::string name(size, '\0');
  check(api().KernelInfo_GetInputName(info_, input, name.data(), &size));
  name.resize(size > 0 ? size - 1 : 0);
  return name;
}

const OrtValue* Context::find(size_t input) const {
  size_t count = 0;
  check(api().KernelContext_GetInputCount(context_, &count));
  const OrtValue* value = nullptr;
  if (input < count) check(api().KernelContext_GetInput(context_, input, &value));
  return value;
}

bool Context::has(size_t first, size_t count) const {
  const bool there = find(first) != nullptr;
  for (size_t i = first + 1; i < first + count; ++i) {
    if ((find(i) != nullptr) == there) continue;
    const char* missing = inputs_.names[there ? i : first];
    refuse(missing, "none", std::string("one, with ") + inputs_.names[there ? first : i]);
  }
  return there;
}

const OrtValue* Context::tensor(size_t input) const {
  const OrtValue* value = find(input);
  if (value == nullptr) refuse(inputs_.names[input], "none", "one");
  return value;
}

void* Context::make(size_t output, const std::vector<int64_t>& shape) {
  OrtValue* value = nullptr;
  check(api().KernelContext_GetOutput(context_, output, shape.data(), shape.size(), &value));
  if (value == nullptr) refuse("output " + std::to_string(output), "none", "one");
  return data_of(value);
}

void Context::parallel(int64_t tasks, const std::function<void(int64_t)>& run) const {
  Work work{run};
  const auto call = [](void* w, size_t task) {
    static_cast<Work*>(w)->task(static_cast<int64_t>(task));
  };
  check(api().KernelContext_ParallelFor(context_, call, static_cast<size_t>(tasks), 0, &work));
  if (work.error) std::rethrow_exception(work.error);
}

namespace {

struct Domains {
  OrtCustomOpDomain *own = nullptr, *onnx = nullptr;
};

// A runtime's, for the life of the process: sessions keep pointers to them, and say nowhere that
// they are done.
const Domains& domains_of(const OrtApi* api) {
  static std::mutex mutex;
  static std::map<const OrtApi*, Domains> made;
  const std::lock_guard lock(mutex);
  const auto known = made.find(api);
  if (known != made.end()) return known->second;
  Domains domains;
  check(api->CreateCustomOpDomain("flagdit", &domains.own));
  for (const OrtCustomOp* op : {&attention(), &feed_forward(), &linear(), &project()})
    check(api->CustomOpDomain_Add(domains.own, op));
  check(api->CreateCustomOpDomain("", &domains.onnx));
  check(api->CustomOpDomain_Add(domains.onnx, &blocked_attention()));
  return made.emplace(api, domains).first->second;
}

}  // namespace
}  // namespace flagdit::onnxruntime

// What ONNX Runtime looks for in a library of operators.
extern "C" __attribute__((visibility("default"))) OrtStatus* ORT_API_CALL
RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace flagdit::onnxruntime;
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr)
    return base->GetApi(1)->CreateStatus(ORT_FAIL, "flagdit needs ONNX Runtime 1.21 or later");
  const Answering answering(api);
  try {
    const Domains& domains = domains_of(api);
    int asked = 0;
    check(api->HasSessionConfigEntry(options, "flagdit.blocked_attention", &asked));
    if (asked != 0) check(api->AddCustomOpDomain(options, domains.onnx));
    return api->AddCustomOpDomain(options, domains.own);
  } catch (const std::exception& error) {
    return failed("operators", error);
  }
}
