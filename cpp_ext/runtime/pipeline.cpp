#include "flagdit/pipeline.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "flagdit/engines.h"
#include "flagdit/error.h"
#include "flagdit/in_turn.h"
#include "flagdit/room.h"
#include "flagdit/tensorrt.h"
#include "flagdit/texts.h"
#include "flagdit/told.h"
#include "library.h"

namespace flagdit {
namespace {

int64_t cores() { return std::max<int64_t>(1, std::thread::hardware_concurrency()); }

// The bundle's, once a number of threads that is none has been refused.
Prompts prompts_of(const Bundle& bundle, const PipelineOptions& options) {
  if (options.threads) checked_threads(*options.threads);
  return bundle.prompts();
}

int64_t bytes_of(const Manifest& manifest, const GraphSpec& graph) {
  const int64_t own = manifest.files.at(graph.file).bytes;
  return own + (graph.weights ? manifest.files.at(*graph.weights).bytes : 0);
}

std::shared_ptr<Session> open(const Bundle& bundle, const OnnxRuntime& runtime,
                              const GraphSpec& graph, const OnnxOptions& options,
                              std::map<std::string, Content>& weights) {
  const HeldGraph held = bundle.graph(graph.file, weights);
  auto session = runtime.open(held.bytes, options);
  check_borders(graph.file, graph.ports(), session->ports());
  return session;
}

}  // namespace

Pipeline::Pipeline(const std::string& bundle, PipelineOptions options)
    : options_(std::move(options)),
      bundle_(Bundle::open(bundle)),
      model_(model_of(bundle_.model())),
      prompts_(prompts_of(bundle_, options_)),
      device_(chosen_device()),
      engine_(chosen_engine()),
      precision_(engine_ == nullptr ? "float32" : engine_->precision) {}

const OnnxRuntime& Pipeline::runtime() {
  if (runtime_ == nullptr) runtime_ = find_onnxruntime(options_.onnxruntime);
  return *runtime_;
}

// ONNX Runtime is looked for only where a GPU could be used.
Device Pipeline::chosen_device() {
  if (options_.backend == "tensorrt-rtx")
    throw Error(
        Fault::backend,
        "backend tensorrt-rtx runs in Python alone (flagdit generate); here are onnxruntime, "
        "tensorrt");
  if (options_.device != "cpu") gpu_ = Gpu::here();
  const bool own = options_.backend == "onnxruntime" && !gpu_.name.empty();
  return choose_device(options_.device, options_.backend, gpu_, own && runtime().has_cuda());
}

const EngineSpec* Pipeline::chosen_engine() const {
  const Manifest& manifest = bundle_.manifest();
  return device_ == Device::cpu
             ? choose(manifest, options_.precision, Cpu::here())
             : choose_on_gpu(manifest, options_.backend, options_.precision, gpu_);
}

Place Pipeline::place() const {
  std::optional<int64_t> most = device_ == Device::cpu ? room() : std::optional(gpu_.free);
  if (options_.max_memory) most = std::min(most.value_or(INT64_MAX), *options_.max_memory);
  // On a GPU nothing else of the program is, and what was free is what there was before it loaded.
  if (device_ == Device::cuda) return {precision_, most, 0, {1, 0}};
  return {precision_, most, loaded_, {options_.threads.value_or(cores()), kProgramBytes}};
}

Job Pipeline::plan(const Request& request) const {
  check_texts(request, prompts_);
  Job job = resolve(request, model_);
  admit(job, model_, place());
  return job;
}

Memory Pipeline::memory(const Job& job) const { return flagdit::memory(job, model_, place()); }

int64_t Pipeline::encoder_memory() const {
  int64_t most = 0;
  for (const TextSpec& text : bundle_.model().texts) {
    const int64_t stored = bytes_of(bundle_.manifest(), text.graph);
    if (stored >= kLoadedInTurn) most = std::max(most, encoder_bytes(text.dtype, stored));
  }
  return most;
}

// An engine of TensorRT has no letters: its ports are those of the manifest.
std::shared_ptr<Session> Pipeline::open_engine(std::map<std::string, Content>& weights) {
  const ModelSpec& spec = bundle_.model();
  if (options_.backend == "tensorrt") {
    const HeldGraph plan = bundle_.engine(engine_->file);
    std::vector<Port> ports = engine_->inputs;
    ports.insert(ports.end(), engine_->outputs.begin(), engine_->outputs.end());
    return TensorRt(options_.tensorrt)
        .open({engine_->file, plan.bytes.content.data, plan.bytes.content.size, std::move(ports),
               precision_});
  }
  OnnxOptions lean;
  if (options_.threads) lean.threads = static_cast<int>(*options_.threads);
  lean.lean = true;
  lean.precision = precision_;
  lean.device = device_;
  const GraphSpec denoise = engine_ == nullptr
                                ? spec.denoise
                                : GraphSpec{engine_->file, engine_->inputs, engine_->outputs};
  return open(bundle_, runtime(), denoise, lean, weights);
}

// Texts are encoded on the CPU, once: the graphs of encoders are made for it. Large ones are loaded
// when they run, one after the other, also by a run that outlives the pipeline.
std::vector<std::shared_ptr<Session>> Pipeline::encoders() {
  OnnxOptions all;
  if (options_.threads) all.threads = static_cast<int>(*options_.threads);
  runtime();
  const auto bundle = std::make_shared<const Bundle>(bundle_);
  std::vector<std::shared_ptr<Session>> out;
  for (const TextSpec& text : bundle->model().texts) {
    const auto own = [bundle, all, runtime = runtime_, &graph = text.graph] {
      std::map<std::string, Content> weights;
      return open(*bundle, *runtime, graph, all, weights);
    };
    if (bytes_of(bundle->manifest(), text.graph) < kLoadedInTurn) {
      out.push_back(own());
      continue;
    }
    out.push_back(std::make_shared<InTurn>(text.graph.file, text.graph.ports(), own));
  }
  return out;
}

void Pipeline::load() {
  if (loaded()) return;
  const ModelSpec& spec = bundle_.model();
  OnnxOptions all, one, made;
  if (options_.threads) all.threads = static_cast<int>(*options_.threads);
  one.threads = 1;  // sums of `condition` depend on the number of threads
  made = one;
  // Of TensorRT's runtime a machine need not have more than the engine asks for.
  if (options_.backend == "onnxruntime") made.device = device_;
  std::map<std::string, Content> weights, none;  // read once for all graphs
  Stages stages;
  stages.texts = encoders();
  stages.condition = open(bundle_, runtime(), spec.condition, made, weights);
  stages.place = open(bundle_, runtime(), spec.place, one, none);
  stages.denoise = open_engine(weights);
  weights.clear();  // the sessions have what they need, and what decodes needs its own
  if (engine_ != nullptr) bundle_.check_engine(*engine_, *stages.denoise);
  all.device = made.device;
  const auto opened = [&](const std::optional<GraphSpec>& graph) {
    none.clear();
    return graph ? open(bundle_, runtime(), *graph, all, none) : nullptr;
  };
  decoders_ = {opened(spec.decode), opened(spec.preview)};
  stages.encode = opened(spec.encode);
  stages_ = std::move(stages);
  loaded_ = resident();
}

void Pipeline::check_paints() const {
  if (bundle_.model().latent.space == "pixels" || bundle_.model().decode) return;
  throw Error(Fault::backend,
              "the model ends in latents and its bundle has no decode graph; export it with --vae");
}

Generation Pipeline::start(const Job& job, bool last) {
  check_paints();
  load();
  auto origin = std::make_shared<Origin>();
  origin->model = bundle_.model().name;
  origin->digest = bundle_.model().weights.sha256;
  origin->bundle = bundle_.name();
  origin->space = bundle_.model().latent.space;
  origin->numbers = model_;
  set_engine(*origin, *stages_.denoise);
  origin->gpu = gpu_.name;
  Job own = job;
  own.run.lets_go = last;
  return Generation(std::move(origin), std::move(own), last ? std::move(stages_) : stages_,
                    texts_of(job.request, job.run.branches, prompts_), decoders_);
}

}  // namespace flagdit
