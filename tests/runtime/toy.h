// A model of no weights, as sessions of our own: what ONNX Runtime is not there for, as under an
// emulator.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "flagdit/arena.h"
#include "flagdit/run.h"

namespace toy {

using namespace flagdit;

constexpr int64_t kValues = 12, kText = 3;  // of a patch, of a text token

inline Axis letter(const char* name) { return std::string(name); }
inline Bound made(const std::string& name, const Shape& shape, float value) {
  const auto arena = std::make_shared<Arena>(Device::cpu, bytes_of(DType::f32, shape) + 256);
  Bound out{name, arena->make(DType::f32, shape), arena};
  std::fill_n(out.tensor.as<float>(), bytes_of(DType::f32, shape) / 4, value);
  return out;
}

// The velocity of every token is (2 - t) of its condition, and its cache what it is. A call counts the
// tokens whose place is not of the phase that all of it is said to be of: place is 1000 phase + index.
class Denoise : public Session {
 public:
  Denoise() {
    const Axis a = letter("A"), r = letter("R");
    ports_ = {{"tokens", DType::f32, {a, r, kValues}, false},
              {"speed", DType::f32, {r, int64_t{1}}, false},
              {"where", DType::f32, {a, r, int64_t{1}}, false},
              {"phase_of_all", DType::f32, {int64_t{1}}, false},
              {"memory_tail", DType::f32, {letter("M"), r, kValues}, false},
              {"velocity", DType::f32, {a, r, kValues}, true},
              {"memory_head", DType::f32, {a, r, kValues}, true}};
    name = "denoise";
    backend = "toy";
  }
  const std::vector<Port>& ports() const override { return ports_; }
  std::vector<Bound> run(const std::vector<Bound>&) override { return {}; }
  std::unique_ptr<Binding> bind(const std::vector<Bound>& tensors) override;

  std::atomic<int64_t> calls{0}, misplaced{0}, late{0};  // late: calls of a phase after the first

 private:
  std::vector<Port> ports_;
};

class Call : public Binding {
 public:
  Call(Denoise& owner, const std::vector<Bound>& tensors) : owner_(owner) {
    for (const Bound& bound : tensors) of_.emplace(bound.name, bound.tensor);
  }
  void run(Stream) override {
    ++owner_.calls;
    const Tensor &tokens = of_.at("tokens"), &speed = of_.at("speed"),
                 &velocity = of_.at("velocity");
    const int64_t rows = tokens.shape[1];
    const float phase = *of_.at("phase_of_all").as<float>();
    owner_.late += phase > 0 ? 1 : 0;
    for (int64_t i = 0; i < tokens.shape[0] * rows; ++i)
      owner_.misplaced += std::floor(of_.at("where").as<float>()[i] / 1000) != phase ? 1 : 0;
    for (int64_t i = 0; i < tokens.shape[0] * rows * kValues; ++i) {
      velocity.as<float>()[i] = speed.as<float>()[i / kValues % rows];
      of_.at("memory_head").as<float>()[i] = tokens.as<float>()[i];
    }
  }

 private:
  Denoise& owner_;
  std::map<std::string, Tensor> of_;
};

inline std::unique_ptr<Binding> Denoise::bind(const std::vector<Bound>& tensors) {
  return std::make_unique<Call>(*this, tensors);
}

// A graph that runs once, as a function.
class Once : public Session {
 public:
  using Work = std::vector<Bound> (*)(const std::vector<Bound>&);
  Once(std::vector<Port> ports, Work work) : ports_(std::move(ports)), work_(work) {
    backend = "toy";
  }
  const std::vector<Port>& ports() const override { return ports_; }
  std::vector<Bound> run(const std::vector<Bound>& inputs) override { return work_(inputs); }
  std::unique_ptr<Binding> bind(const std::vector<Bound>&) override { return nullptr; }

 private:
  std::vector<Port> ports_;
  Work work_;
};

inline Stages stages(std::shared_ptr<Denoise> denoise) {
  const Axis r = letter("R"), t = letter("T"), s = letter("S");
  const auto text = [](const std::vector<Bound>& in) {
    return std::vector<Bound>{made("text", {1, in[0].tensor.shape[1], kText}, 0.5f)};
  };
  // (S, R, 1): 2 - t.
  const auto condition = [](const std::vector<Bound>& in) {
    const int64_t times = in[0].tensor.shape[0];
    Bound speed = made("speed", {times, 1, 1}, 0.0f);
    for (int64_t i = 0; i < times; ++i)
      speed.tensor.as<float>()[i] = 2.0f - in[0].tensor.as<float>()[i];
    return std::vector<Bound>{speed};
  };
  const auto place = [](const std::vector<Bound>& in) {
    const int64_t count = in[0].tensor.shape[0];
    const auto phase = static_cast<float>(*in[1].tensor.as<int64_t>());
    Bound where = made("where", {count, 1}, 1000 * phase);
    for (int64_t i = 0; i < count; ++i) where.tensor.as<float>()[i] += static_cast<float>(i);
    return std::vector<Bound>{where, made("phase_of_all", {1}, phase)};
  };
  return {{std::make_shared<Once>(std::vector<Port>{{"input_ids", DType::i64, {r, t}, false},
                                                    {"text", DType::f32, {r, t, kText}, true}},
                                  text)},
          std::make_shared<Once>(std::vector<Port>{{"t", DType::f32, {s}, false},
                                                   {"speed", DType::f32, {s, r, int64_t{1}}, true}},
                                 condition),
          std::make_shared<Once>(
              std::vector<Port>{{"place", DType::i64, {letter("N"), int64_t{4}}, false},
                                {"phase", DType::i64, {int64_t{1}}, false},
                                {"where", DType::f32, {letter("N"), int64_t{1}}, true},
                                {"phase_of_all", DType::f32, {int64_t{1}}, true}},
              place),
          std::move(denoise)};
}

}  // namespace toy
