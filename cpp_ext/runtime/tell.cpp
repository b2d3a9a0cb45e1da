#include "tell.h"

#include <cstdio>

#include "../src/printable.h"
#include "flagdit/engines.h"
#include "flagdit/names.h"
#include "flagdit/room.h"

namespace flagdit {
namespace {

template <typename... Values>
std::string formatted(const char* format, Values... values) {
  char text[512];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

std::string size_of(int64_t width, int64_t height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string lines_of(const Leg& leg, size_t first) {
  std::string text;
  for (const Step& step : leg.plan.steps) {
    const double share = static_cast<double>(step.active) / static_cast<double>(leg.plan.tokens);
    text +=
        formatted("%4zu  %5.3f  %6lld  %5.1f%%  %s\n", first++, step.t,
                  static_cast<long long>(step.active), 100 * share, step.dense ? "dense" : "RAS");
  }
  return text;
}

std::string memory_line(const Memory& memory) {
  return "memory   " + megabytes(memory.total()) + " at most: weights " +
         megabytes(memory.weights) + ", caches " + megabytes(memory.caches) + ", state " +
         megabytes(memory.state) + ", conditions " + megabytes(memory.conditions) +
         ", activations " + megabytes(memory.activations) + ", scores " + megabytes(memory.scores) +
         (memory.decode > 0 ? ", decode " + megabytes(memory.decode) : "") + ", program " +
         megabytes(memory.program) + "\n";
}

}  // namespace

std::string megabytes(int64_t bytes) {
  const double megabyte = 1 << 20;
  return formatted(bytes < 10 * megabyte ? "%.1f MB" : "%.0f MB",
                   static_cast<double>(bytes) / megabyte);
}

std::string tell_bundle(const Pipeline& pipeline) {
  const Bundle& bundle = pipeline.bundle();
  const ModelSpec& model = bundle.model();
  int64_t bytes = 0;
  for (const auto& [name, file] : bundle.manifest().files) bytes += file.bytes;
  std::string text = "bundle     " + printable(bundle.name()) + ", " +
                     std::to_string(bundle.manifest().files.size()) + " files, " +
                     megabytes(bytes) + ", made by flagdit " +
                     printable(bundle.manifest().flagdit) + "\n";
  text += "model      " + printable(model.name) +
          formatted(", %.1fM parameters, ", static_cast<double>(model.weights.parameters) / 1e6) +
          size_of(model.latent.width, model.latent.height) + " " + model.latent.space + "\n";
  text += "weights    " + model.weights.sha256.substr(0, 16) + "..., " + model.weights.dtype + "\n";
  text += "precision  " + listed(available(bundle.manifest(), Cpu::here())) + "; denoise runs in " +
          pipeline.precision() + "\n";
  for (const TextSpec& encoder : model.texts)
    text += "encoder    " + encoder.graph.file + ", " + encoder.dtype + "\n";
  for (const std::string& line : unused(bundle.manifest(), Cpu::here()))
    text += "           " + printable(line) + "\n";
  std::vector<std::string> presets;
  for (const auto& [name, preset] : presets_of(pipeline.model())) presets.push_back(name);
  text += "presets    " + listed(presets) + "\n";
  for (const auto& [name, licence] : model.licences) {
    text += "licence    " + shortened(name) + ": " + shortened(licence) + "\n";
  }
  return text;
}

std::string tell_plan(const Pipeline& pipeline, const Job& job) {
  std::string text = "step      t  tokens  computed\n";
  size_t first = 0, calls = 0, dense = 0;
  for (const Leg& leg : job.run.legs) {
    text += lines_of(leg, first);
    first += leg.plan.steps.size();
    calls += leg.plan.evaluations.size();
    for (const Step& step : leg.plan.steps) dense += step.dense ? 1 : 0;
  }
  const Leg& full = job.run.legs.back();
  std::optional<Cost> cost;
  for (const Leg& leg : job.run.legs) {
    const Cost own =
        price(pipeline.model().sizes, leg.plan, {job.run.branches > 0 ? 1 : 1, job.run.branches});
    cost = cost ? own.after(*cost) : own;
  }
  const int64_t scale = pipeline.model().downscale;
  text += "\nsteps    " + std::to_string(dense) + " dense and " + std::to_string(first - dense) +
          " RAS steps over " + std::to_string(full.plan.tokens) + " tokens, " +
          std::to_string(calls) + " evaluations of " + name_of(job.sampling.how.solver) + ", " +
          size_of(full.layout.width * scale, full.layout.height * scale) + "\n";
  text += formatted("work     %.3g FLOPs a picture, %.1f%% of dense sampling\n", cost->total(),
                    100 * cost->flop_ratio());
  text += memory_line(pipeline.memory(job));
  if (const int64_t encoder = pipeline.encoder_memory(); encoder > 0)
    text += "encoders " + megabytes(encoder) + " besides the weights, before the steps\n";
  if (const auto most = room())
    text += "room     " + megabytes(*most) + " that this process may hold\n";
  return text;
}

}  // namespace flagdit
