// The TensorRT backend against the fake library: what it binds, runs, captures, shares and refuses.
#include "flagdit/tensorrt.h"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "flagdit/error.h"
#include "flagdit/graph.h"
#include "flagdit/make_plan.h"
#include "flagdit/sampler.h"

using namespace flagdit;

namespace {

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

void refused(Fault fault, const std::string& words, const std::function<void()>& what) {
  try {
    what();
  } catch (const Error& error) {
    const bool right = std::string(error.what()).find(words) != std::string::npos;
    return expect(right && error.fault == fault, std::string("other words: ") + error.what());
  }
  expect(false, "not refused: " + words);
}

const std::string kPlan =
    "fake 10\n"
    "in tokens f32 -1 2 8\nin key_tail.0 f16 -1 2 1 64\n"
    "out velocity f32 -1 2 8\nout key_head.0 f16 -1 2 1 64\n"
    "profile tokens 1 2 8 64 2 8\nprofile key_tail.0 0 2 1 64 64 2 1 64\n";
// Of two profiles, the second for larger pictures; one port, so that its limits are the only ones.
const std::string kTwo =
    "fake 10\nin x f32 -1 8\nout y f32 -1 8\nprofile x 1 8 4 8\nprofile x 5 8 16 8\n";

std::vector<Port> ports() {
  const std::string a = "A", m = "M", r = "R";
  return {{"tokens", DType::f32, {a, int64_t{2}, int64_t{8}}, false},
          {"key_tail.0", DType::f16, {m, r, int64_t{1}, int64_t{64}}, false},
          {"velocity", DType::f32, {a, int64_t{2}, int64_t{8}}, true},
          {"key_head.0", DType::f16, {a, r, int64_t{1}, int64_t{64}}, true}};
}

std::shared_ptr<Session> opened(const std::string& plan, std::vector<Port> of) {
  const TensorRt library(FAKE_NVINFER);
  return library.open({"denoise", plan.data(), plan.size(), std::move(of)});
}

// Arrays of a run of N tokens, and what a call with some of them active binds.
struct Arrays {
  static constexpr int64_t kTokens = 64, kRow = 2 * 64 * 2;  // bytes of a slot of the cache

  Arrays() {
    cudaMalloc(&tokens, kTokens * 64);
    cudaMalloc(&velocity, kTokens * 64);
    cudaMalloc(&keys, (kTokens + 1) * kRow);
  }
  ~Arrays() {
    for (std::byte* memory : {tokens, velocity, keys}) cudaFree(memory);
  }

  std::vector<Bound> head(int64_t active) const {
    return {{"tokens", {tokens, DType::f32, {active, 2, 8}, Device::cuda}},
            {"velocity", {velocity, DType::f32, {active, 2, 8}, Device::cuda}},
            {"key_head.0", {keys, DType::f16, {active, 2, 1, 64}, Device::cuda}},
            {"key_tail.0",
             {keys + active * kRow, DType::f16, {kTokens - active, 2, 1, 64}, Device::cuda}}};
  }

  std::byte *tokens = nullptr, *velocity = nullptr, *keys = nullptr;
};

struct NewStream {
  NewStream() { cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); }
  ~NewStream() { cudaStreamDestroy(stream); }
  cudaStream_t stream = nullptr;
};

void test_runs() {
  const auto session = opened(kPlan, ports());
  expect(session->device() == Device::cuda && session->backend == "tensorrt", "says what it is");
  const Arrays arrays;
  const NewStream own;
  for (const int64_t active : {64, 16, 64, 1}) {  // the first one is dense: its tail is empty
    std::memset(arrays.velocity, 0, Arrays::kTokens * 64);
    std::memset(arrays.keys, 7, Arrays::kTokens * Arrays::kRow);
    session->bind(arrays.head(active))->run(own.stream);
    const auto at = [](const std::byte* memory, int64_t n) {
      return std::to_integer<int>(memory[n]);
    };
    expect(at(arrays.velocity, active * 64 - 1) == 1, "writes the head");
    expect(active == 64 || at(arrays.velocity, active * 64) == 0, "and no more");
    expect(at(arrays.keys, active * Arrays::kRow - 1) == 1, "and the head of the cache");
    expect(active == 64 || at(arrays.keys, active * Arrays::kRow) == 7, "not its tail");
  }
}

// A context for each shape, all in one scratch memory; a graph of each, captured after a run.
void test_captures() {
  const auto session = opened(kPlan, ports());
  const Arrays arrays;
  const NewStream own;
  const auto dense = session->bind(arrays.head(64)), sparse = session->bind(arrays.head(16));
  GraphCache graphs(4);
  refused(Fault::backend, "denoise: is captured before it has run",
          [&] { graphs.run(1, own.stream, [&] { sparse->run(own.stream); }); });
  dense->run(own.stream);
  sparse->run(own.stream);
  for (int times = 0; times < 2; ++times) {
    std::memset(arrays.velocity, 0, Arrays::kTokens * 64);
    graphs.run(1, own.stream, [&] { sparse->run(own.stream); });
    expect(std::to_integer<int>(arrays.velocity[16 * 64 - 1]) == 1, "replays");
    expect(std::to_integer<int>(arrays.velocity[16 * 64]) == 0, "its own shape");
    graphs.run(2, own.stream, [&] { dense->run(own.stream); });
    expect(std::to_integer<int>(arrays.velocity[64 * 64 - 1]) == 1, "and the other");
  }
  expect(graphs.size() == 2, "keeps both");
}

// Of arrays of the host, which it gives back as such.
void test_what_it_makes() {
  const auto session = opened(kTwo, {{"x", DType::f32, {std::string("A"), int64_t{8}}, false},
                                     {"y", DType::f32, {std::string("A"), int64_t{8}}, true}});
  std::vector<float> memory(17 * 8);
  const auto given = [&](int64_t size) {
    return std::vector<Bound>{{"x", {memory.data(), DType::f32, {size, 8}}}};
  };
  for (const int64_t size : {3, 12, 4}) {  // of either profile
    const auto out = session->run(given(size));
    expect(out.size() == 1 && out[0].name == "y" && out[0].tensor.shape == Shape{size, 8} &&
               out[0].tensor.device == Device::cpu,
           "makes an output of the right shape, for the host");
    expect(static_cast<unsigned char*>(out[0].tensor.data)[size * 32 - 1] == 1, "and fills it");
  }
  refused(
      Fault::backend,
      "x is (17, 8); the engine's profile allows (1, 8) to (4, 8); build it again for this size",
      [&] { session->run(given(17)); });
}

// A whole run of a sampler: on the engine's stream, its steps captured when they come again.
void test_a_sampler_runs_it() {
  std::vector<Port> by_row = ports();
  for (const size_t port : {0, 2}) by_row[port].axes[1] = std::string("R");
  const std::shared_ptr<Session> session = opened(kPlan, by_row);
  const Extent extent{Layout{1, 16, 16, 2, 1, 2, 2}, 1, 2};  // 64 patches of 8 values
  PlanRequest request;
  request.regions.budget.ratio = Number(0.25);
  request.steps = int64_t{12};
  request.tokens = extent.layout.tokens();
  const auto plan = std::make_shared<const Plan>(make_plan(request));
  const std::vector<float> noise(static_cast<size_t>(extent.layout.values()), 0.5f);
  Sampler sampler(session, extent, plan, {}, std::vector<float>(8, 1.0f), noise.data());
  int64_t captured = 0, sparse = 0;
  while (!sampler.done()) {
    const StepDone done = sampler.step();
    captured += done.launched > 0;
    sparse += done.step.active < request.tokens;
  }
  expect(sparse > 0 && captured > sparse / 2, "captures steps");
  expect(sampler.plain().empty() && sampler.broken() == 0, "and computes numbers");
  // The emulator's memory is the host's: what the library fills an output with is in every token.
  const Tensor& velocity = sampler.state().velocity;
  const auto* bytes = velocity.as<unsigned char>();
  for (int64_t i = 0; i < bytes_of(velocity.dtype, velocity.shape); ++i)
    if (bytes[i] != 1) return expect(false, "that are the engine's");
}

void test_bindings_outlive_sessions() {
  const Arrays arrays;
  const NewStream own;
  std::unique_ptr<Binding> binding;
  {
    const auto session = opened(kPlan, ports());
    binding = session->bind(arrays.head(8));
  }
  binding->run(own.stream);
}

void test_refuses() {
  const auto session = opened(kPlan, ports());
  const Arrays arrays;
  const auto with = [&](const char* name, const std::function<void(Bound&)>& change) {
    std::vector<Bound> bound = arrays.head(16);
    for (Bound& one : bound)
      if (one.name == name) change(one);
    return bound;
  };
  const auto bind = [&](const char* name, const std::function<void(Bound&)>& change) {
    return [&session, bound = with(name, change)] { session->bind(bound); };
  };
  const auto shift = [](int64_t bytes) {
    return [bytes](Bound& b) { b.tensor.data = b.tensor.as<std::byte>() + bytes; };
  };
  refused(Fault::backend, "key_tail.0 is 128 bytes off its place", bind("key_tail.0", shift(128)));
  refused(Fault::backend, "velocity is 16 bytes off its place; TensorRT allows addresses that are",
          bind("velocity", shift(16)));
  refused(Fault::backend, "key_tail.0 is at no address",
          bind("key_tail.0", [](Bound& b) { b.tensor.data = nullptr; }));
  refused(Fault::backend,
          "tokens is (65, 2, 8); the engine's profile allows (1, 2, 8) to (64, 2, 8)",
          bind("tokens", [](Bound& b) { b.tensor.shape.sizes[0] = 65; }));
  refused(Fault::bundle, "velocity is (16, 2, 8) for these inputs; got (15, 2, 8)",
          bind("velocity", [](Bound& b) { b.tensor.shape.sizes[0] = 15; }));
  refused(Fault::bundle, "tokens is float32 (A, 2, 8) on cuda; got float16 (16, 2, 8) on cuda",
          bind("tokens", [](Bound& b) { b.tensor.dtype = DType::f16; }));
  refused(Fault::bundle, "got float32 (16, 2, 8) on cpu",
          bind("tokens", [](Bound& b) { b.tensor.device = Device::cpu; }));
  refused(Fault::bundle, "denoise: key_tail.0 is not bound", [&] {
    std::vector<Bound> bound = arrays.head(16);
    bound.pop_back();
    session->bind(bound);
  });
  refused(Fault::backend, "TensorRT runs on a stream of the run, got the default one",
          [&] { session->bind(arrays.head(16))->run(nullptr); });
}

void test_refuses_plans() {
  refused(Fault::backend,
          "denoise: TensorRT refuses the engine, as it does one for another GPU or version; build "
          "it again on this machine with flagdit build --target tensorrt (fake: the plan is of "
          "another version)",
          [] { opened("other", ports()); });
  const auto differs = [](const std::string& words, const std::function<void(Port&)>& change) {
    std::vector<Port> said = ports();
    change(said[0]);
    refused(Fault::bundle, "the engine is another than the manifest says: " + words,
            [&] { opened(kPlan, said); });
  };
  differs("tokens is not said", [](Port& port) { port.name = "other"; });
  differs("tokens is said to be float16", [](Port& port) { port.dtype = DType::f16; });
  differs("tokens is said to be", [](Port& port) { port.output = true; });
  differs("tokens is said to be float32 (A, 2, 9)", [](Port& port) { port.axes[2] = int64_t{9}; });
  differs("tokens is said to be float32 (A, 2), and is float32 of 3 dimensions",
          [](Port& port) { port.axes.pop_back(); });
  refused(Fault::bundle, "it has 4 of the 5 inputs and outputs that are said", [] {
    std::vector<Port> said = ports();
    said.push_back({"more", DType::f32, {}, false});
    opened(kPlan, said);
  });
}

void test_refuses_libraries() {
  refused(Fault::backend, "TensorRT cannot be loaded (",
          [] { TensorRt("/nonexistent/libnvinfer.so"); });
  refused(Fault::backend, "is no library of TensorRT", [] { TensorRt("libm.so.6"); });
  expect(TensorRt(FAKE_NVINFER).version() == "10.16.2", "says its version");
  for (const char* version : {"100200", "110000", "80600"}) {
    setenv("FAKE_TENSORRT_VERSION", version, 1);
    refused(Fault::backend,
            "; allowed are 10.3.0 and later of version 10, which this was compiled for",
            [] { TensorRt library(FAKE_NVINFER); });
  }
  unsetenv("FAKE_TENSORRT_VERSION");
}

}  // namespace

int main() {
  test_runs();
  test_captures();
  test_what_it_makes();
  test_a_sampler_runs_it();
  test_bindings_outlive_sessions();
  test_refuses();
  test_refuses_plans();
  test_refuses_libraries();
  if (failures == 0) std::printf("the TensorRT backend keeps the rules\n");
  return failures == 0 ? 0 : 1;
}
