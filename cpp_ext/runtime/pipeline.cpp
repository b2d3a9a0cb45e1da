#include "flagdit/pipeline.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "borders.h"
#include "flagdit/engines.h"
#include "flagdit/error.h"
#include "flagdit/room.h"
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

}  // namespace

Pipeline::Pipeline(const std::string& bundle, PipelineOptions options)
    : options_(std::move(options)),
      bundle_(Bundle::open(bundle)),
      model_(model_of(bundle_.model())),
      prompts_(prompts_of(bundle_, options_)),
      engine_(choose(bundle_.manifest(), options_.precision, Cpu::here())),
      precision_(engine_ == nullptr ? "float32" : engine_->precision) {}

Place Pipeline::place() const {
  std::optional<int64_t> most = room();
  if (options_.max_memory) most = std::min(most.value_or(INT64_MAX), *options_.max_memory);
  return {precision_, most, loaded_, {options_.threads.value_or(cores()), kProgramBytes}};
}

Job Pipeline::plan(const Request& request) const {
  check_texts(request, prompts_);
  Job job = resolve(request, model_);
  admit(job, model_, place());
  return job;
}

Memory Pipeline::memory(const Job& job) const { return flagdit::memory(job, model_, place()); }

std::shared_ptr<Session> Pipeline::open(const OnnxRuntime& runtime, const GraphSpec& graph,
                                        const OnnxOptions& options,
                                        std::map<std::string, Content>& weights) const {
  const HeldGraph held = bundle_.graph(graph.file, weights);
  auto session = runtime.open(held.bytes, options);
  check_borders(graph, *session);
  return session;
}

void Pipeline::load() {
  if (loaded()) return;
  const auto runtime = find_onnxruntime(options_.onnxruntime);
  const ModelSpec& spec = bundle_.model();
  OnnxOptions all, one, lean;
  if (options_.threads) all.threads = static_cast<int>(*options_.threads);
  one.threads = 1;  // sums of `condition` depend on the number of threads
  lean = all;
  lean.lean = true;
  lean.precision = precision_;
  std::map<std::string, Content> weights, none;  // read once for all graphs
  Stages stages;
  stages.text = open(*runtime, spec.texts[0].graph, all, none);
  stages.condition = open(*runtime, spec.condition, one, weights);
  none.clear();
  stages.place = open(*runtime, spec.place, one, none);
  const GraphSpec denoise = engine_ == nullptr
                                ? spec.denoise
                                : GraphSpec{engine_->file, engine_->inputs, engine_->outputs};
  stages.denoise = open(*runtime, denoise, lean, weights);
  stages_ = std::move(stages);
  weights.clear();
  loaded_ = resident();
}

Generation Pipeline::start(const Job& job, bool last) {
  load();
  auto origin = std::make_shared<Origin>();
  origin->model = bundle_.model().name;
  origin->digest = bundle_.model().weights.sha256;
  origin->bundle = bundle_.name();
  origin->space = bundle_.model().latent.space;
  origin->numbers = model_;
  set_engine(*origin, *stages_.denoise);
  Job own = job;
  own.run.lets_go = last;
  return Generation(std::move(origin), std::move(own), last ? std::move(stages_) : stages_,
                    texts_of(job.request, job.run.branches, prompts_));
}

}  // namespace flagdit
