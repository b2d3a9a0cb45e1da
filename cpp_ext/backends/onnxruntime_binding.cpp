#include "onnxruntime_binding.h"

#include <algorithm>
#include <utility>

#include "../onnxruntime/tails.h"

namespace flagdit {

OnnxBinding::OnnxBinding(std::shared_ptr<OnnxGraph> graph)
    : graph_(std::move(graph)), io_(graph_->library->api->ReleaseIoBinding) {
  check(graph_->library->api->CreateIoBinding(graph_->session.get(), io_.out()), "bind");
}

void OnnxBinding::add(const Port& port, const Tensor& tensor, const OrtMemoryInfo* place) {
  const OrtApi& api = *graph_->library->api;
  OnnxHandle<OrtValue> value(api.ReleaseValue);  // the binding keeps its own reference
  const Shape& shape = tensor.shape;
  const auto bytes = static_cast<size_t>(bytes_of(tensor.dtype, shape));
  check(api.CreateTensorWithDataAsOrtValue(place, tensor.data, bytes, shape.sizes.data(),
                                           static_cast<size_t>(shape.rank), to_onnx(tensor.dtype),
                                           value.out()),
        "bind");
  check(port.output ? api.BindOutput(io_.get(), port.name.c_str(), value.get())
                    : api.BindInput(io_.get(), port.name.c_str(), value.get()),
        "bind");
  if (!port.output)
    shapes_.insert(shapes_.end(), shape.sizes.begin(), shape.sizes.begin() + shape.rank);
}

void OnnxBinding::add(const Port& port) {
  const OnnxLibrary& library = graph_->library;
  check(library->api->BindOutputToDevice(io_.get(), port.name.c_str(), library->memory), "bind");
}

// Who runs holds the turn of the session, so that `seen` is his.
void OnnxBinding::run(Stream) {
  const OrtApi& api = *graph_->library->api;
  check(api.RunWithBinding(graph_->session.get(), graph_->run.get(), io_.get()), "run");
  if (graph_->memory.get() != nullptr && !settled()) graph_->seen.push_back(shapes_);
}

void OnnxBinding::run_with(const Tails& tails) {
  const onnxruntime::CalledTails called(tails);
  run(nullptr);
  if (!called.all_taken())
    throw Error(Fault::backend, graph_->name +
                                    ": ONNX Runtime called its operators on a thread of " +
                                    "its own, or not all of them; next: another version of it");
}

bool OnnxBinding::settled() const {
  const auto& seen = graph_->seen;
  return std::find(seen.begin(), seen.end(), shapes_) != seen.end();
}

std::vector<Bound> OnnxBinding::outputs(const std::vector<const Port*>& ports) {
  const OrtApi& api = *graph_->library->api;
  OrtAllocator* allocator = nullptr;
  check(api.GetAllocatorWithDefaultOptions(&allocator), "run");
  OrtValue** values = nullptr;
  size_t count = 0;
  check(api.GetBoundOutputValues(io_.get(), allocator, &values, &count), "run");
  std::vector<Bound> out;
  for (size_t i = 0; i < count; ++i) {
    const std::shared_ptr<OrtValue> value(values[i], api.ReleaseValue);
    out.push_back({ports[i]->name, tensor_of(value.get()), value});
  }
  if (values != nullptr) check(api.AllocatorFree(allocator, values), "run");
  return out;
}

Tensor OnnxBinding::tensor_of(OrtValue* value) const {
  const OrtApi& api = *graph_->library->api;
  OnnxHandle<OrtTensorTypeAndShapeInfo> info(api.ReleaseTensorTypeAndShapeInfo);
  check(api.GetTensorTypeAndShape(value, info.out()), "run");
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  check(api.GetTensorElementType(info.get(), &type), "run");
  size_t rank = 0;
  check(api.GetDimensionsCount(info.get(), &rank), "run");
  std::vector<int64_t> sizes(rank);
  check(api.GetDimensions(info.get(), sizes.data(), rank), "run");
  void* data = nullptr;
  check(api.GetTensorMutableData(value, &data), "run");
  return {data, from_onnx(type), Shape(sizes.data(), static_cast<int>(rank))};
}

}  // namespace flagdit
