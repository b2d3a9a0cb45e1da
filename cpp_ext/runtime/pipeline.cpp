#include "flagdit/pipeline.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "../src/printable.h"
#include "borders.h"
#include "flagdit/engines.h"
#include "flagdit/error.h"
#include "flagdit/room.h"
#include "library.h"
#include "origin.h"

namespace flagdit {
namespace {

int64_t cores() { return std::max<int64_t>(1, std::thread::hardware_concurrency()); }

int64_t value_bytes(const Session& denoise) {
  for (const Port& port : denoise.ports()) {
    if (port.starts("M") && !port.output) return port.dtype == DType::f32 ? 4 : 2;
  }
  return 4;
}

}  // namespace

Pipeline::Pipeline(const std::string& bundle, PipelineOptions options)
    : options_(std::move(options)),
      bundle_(Bundle::open(bundle)),
      model_(model_of(bundle_.model())),
      prompts_((options_.threads ? checked_threads(*options_.threads) : 0, bundle_.prompts())),
      engine_(choose(bundle_.manifest(), options_.precision, Cpu::here())),
      precision_(engine_ == nullptr ? "float32" : engine_->precision) {}

Place Pipeline::place() const {
  std::optional<int64_t> most = room();
  if (options_.max_memory) most = std::min(most.value_or(INT64_MAX), *options_.max_memory);
  return {precision_, most, loaded_, {options_.threads.value_or(cores()), kProgramBytes}};
}

Job Pipeline::plan(const Request& request) const {
  for (const std::string& prompt : request.prompts) prompts_.read(prompt);
  if (!request.negative.empty()) prompts_.read(request.negative, "negative prompt");
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

Texts Pipeline::texts(const Request& request, int64_t branches) const {
  std::vector<std::string> rows = request.prompts, all;
  if (branches == 2) rows.insert(rows.end(), request.prompts.size(), request.negative);
  Texts texts;
  for (const std::string& text : rows) {
    const auto known = std::find(all.begin(), all.end(), text);
    texts.rows.push_back(static_cast<size_t>(known - all.begin()));
    if (known != all.end()) continue;
    all.push_back(text);
    texts.all.push_back(
        {text.empty() ? prompts_.none() : prompts_.read(text), "the text " + in_quotes(text)});
  }
  return texts;
}

Generation Pipeline::start(const Job& job, bool last) {
  load();
  auto origin = std::make_shared<Origin>();
  origin->model = bundle_.model().name;
  origin->digest = bundle_.model().weights.sha256;
  origin->bundle = bundle_.name();
  origin->backend = stages_.denoise->backend;
  origin->precision = stages_.denoise->precision;
  origin->space = bundle_.model().latent.space;
  origin->numbers = model_;
  origin->value_bytes = value_bytes(*stages_.denoise);
  Job own = job;
  own.run.lets_go = last;
  return Generation(std::move(origin), std::move(own), last ? std::move(stages_) : stages_,
                    texts(job.request, job.run.branches));
}

}  // namespace flagdit
