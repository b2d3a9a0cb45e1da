#include "flagdit/in_turn.h"

#include <utility>

namespace flagdit {

// The bytes that were read, and ONNX Runtime's own; halves become fp32, turned to multiply with.
int64_t encoder_bytes(const std::string& dtype, int64_t stored) {
  const double times = dtype == "int8" || dtype == "int4" ? 2.2 : dtype == "float32" ? 3.1 : 7.0;
  return static_cast<int64_t>(times * static_cast<double>(stored));
}

InTurn::InTurn(std::string graph, std::vector<Port> ports, Open open)
    : ports_(std::move(ports)), open_(std::move(open)) {
  name = std::move(graph);
  backend = "onnxruntime-cpu";
}

std::unique_ptr<Binding> InTurn::bind(const std::vector<Bound>& tensors) {
  return opened()->bind(tensors);
}

std::vector<Bound> InTurn::run(const std::vector<Bound>& inputs) { return opened()->run(inputs); }

bool InTurn::loaded() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return session_ != nullptr;
}

void InTurn::rest() {
  std::shared_ptr<Session> gone;  // freed when the lock is
  const std::lock_guard<std::mutex> lock(mutex_);
  gone.swap(session_);
}

std::shared_ptr<Session> InTurn::opened() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (session_ == nullptr) session_ = open_();
  return session_;
}

}  // namespace flagdit
