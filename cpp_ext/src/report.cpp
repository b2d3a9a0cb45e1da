#include "report.h"

#include <cstdio>
#include <numeric>

#include "flagdit/names.h"
#include "flagdit/price.h"
#include "version.h"

namespace flagdit {
namespace {

Ordered json_of(const Number& number) {
  if (number.whole) return static_cast<int64_t>(number.value);
  return number.value;
}

Ordered json_of(const std::vector<Number>& numbers) {
  Ordered list = Ordered::array();
  for (const Number& number : numbers) list.push_back(json_of(number));
  return list;
}

Ordered json_of(const std::optional<Number>& number) {
  return number ? json_of(*number) : Ordered(nullptr);
}

struct Written {
  Ordered operator()(std::monostate) const { return nullptr; }
  Ordered operator()(bool flag) const { return flag; }
  Ordered operator()(const Number& number) const { return json_of(number); }
  Ordered operator()(const std::string& text) const { return text; }
  Ordered operator()(const std::vector<Number>& numbers) const { return json_of(numbers); }
  Ordered operator()(const Other& other) const { return other.text; }
};

Ordered json_of(const Value& value) { return std::visit(Written{}, value); }

Ordered json_of(const Steps& steps) {
  if (const auto* count = std::get_if<int64_t>(&steps)) return *count;
  return std::get<std::vector<double>>(steps);
}

template <typename T>
Ordered one_or_all(const std::vector<T>& all, int64_t sample) {
  if (all.size() == 1) return all[0];
  return sample >= 0 ? Ordered(all[static_cast<size_t>(sample)]) : Ordered(all);
}

std::vector<double> times_of(const Plan& plan) {
  std::vector<double> times;
  for (const Step& step : plan.steps) times.push_back(step.t);
  times.push_back(plan.steps.back().t_next);
  return times;
}

Cost cost_of(const Told& told) {
  std::optional<Cost> all;
  for (size_t leg = 0; leg < told.job.run.legs.size(); ++leg) {
    std::vector<Taken> taken;
    for (size_t i = 0; i < told.steps.size(); ++i) {
      if (told.legs[i] == leg) taken.push_back({told.steps[i].step.active, told.steps[i].branches});
    }
    const Batch batch{static_cast<int64_t>(told.job.run.seeds.size()), told.job.run.branches,
                      told.run.text_tokens(), told.origin.value_bytes};
    const Cost cost = price(told.origin.numbers.sizes, told.job.run.legs[leg].plan, batch, taken);
    all = all ? cost.after(*all) : cost;
  }
  return *all;
}

// Of each step, as the device took them.
std::vector<double> taken_of(const Told& told) {
  if (!told.origin.gpu.empty()) return told.run.step_seconds();
  std::vector<double> out;
  for (const StepDone& done : told.steps) out.push_back(done.denoise + done.host);
  return out;
}

// What only a run on a GPU has to tell.
Ordered gpu_of(const Told& told) {
  if (told.origin.gpu.empty()) return nullptr;
  Ordered nodes = Ordered::array();
  int64_t captured = 0;
  for (const StepDone& done : told.steps) {
    nodes.push_back(done.launched);
    captured += done.launched > 0;
  }
  const Sampler& sampler = *told.run.sampler();
  double enqueued = 0;
  for (const StepDone& done : told.steps) enqueued += done.denoise + done.host;
  return {{"name", told.origin.gpu},    {"state_bytes", sampler.state_bytes()},
          {"captured_steps", captured}, {"graph_nodes", nodes},
          {"plain", sampler.plain()},   {"enqueue_seconds", enqueued}};
}

Ordered step_of(const Told& told, size_t index, double seconds) {
  const StepDone& done = told.steps[index];
  const Layout& layout = told.job.run.legs[told.legs[index]].layout;
  const int64_t scale = told.origin.numbers.downscale;
  return {{"index", index},
          {"t", done.step.t},
          {"active", done.step.active},
          {"dense", done.step.dense},
          {"size", {layout.width * scale, layout.height * scale}},
          {"tokens", layout.tokens()},
          {"evaluations", done.evaluations},
          {"branches", done.branches},
          {"seconds", seconds}};
}

// On a GPU `denoise` is all that a step enqueues, and the host's work is done meanwhile.
Ordered seconds_of(const Told& told, const std::vector<double>& taken) {
  double denoise = 0, host = 0;
  if (told.origin.gpu.empty()) {
    for (const StepDone& done : told.steps) denoise += done.denoise, host += done.host;
  } else {
    denoise = std::accumulate(taken.begin(), taken.end(), 0.0);
  }
  const RunSeconds own = told.run.seconds();
  Ordered seconds = {{"text_encoder", own.text},
                     {"condition", own.condition},
                     {"allocate", own.allocate},
                     {"denoise", denoise},
                     {"host", host}};
  if (own.encode > 0) seconds["encode"] = own.encode;
  seconds["decode"] = told.decode;
  double total = 0;
  for (const auto& part : seconds) total += part.get<double>();
  seconds["total"] = total;
  return seconds;
}

std::string brief(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

// A value that has none of the signs between values, or that is in quotes.
std::string quoted_value(const std::string& value) {
  return value.find_first_of(",:\"\n\\") == std::string::npos ? value : Ordered(value).dump();
}

}  // namespace

Ordered coarse_of(const std::optional<Coarse>& coarse) {
  if (!coarse) return nullptr;
  return {{"factor", coarse->factor},
          {"steps", json_of(coarse->steps)},
          {"shift", json_of(coarse->shift)},
          {"until", json_of(coarse->until)},
          {"end", json_of(coarse->end)}};
}

Ordered skips_of(const std::optional<SkipLayerGuidance>& skips,
                 const std::vector<int64_t>& layers) {
  if (!skips) return nullptr;
  return {{"scale", json_of(skips->scale)},
          {"start", json_of(skips->start)},
          {"stop", json_of(skips->stop)},
          {"layers", layers}};
}

Ordered regions_of(const Regions& regions, bool resolved) {
  Ordered fields = Ordered::object();
  for (const std::string& name : field_names()) fields[name] = json_of(field_of(regions, name));
  if (resolved) {
    const PerStep share = regions.share();
    const auto* one = std::get_if<Number>(&share);
    fields["ratio"] =
        one != nullptr ? json_of(*one) : json_of(std::get<std::vector<Number>>(share));
    fields["metric"] = name_of(regions.metric());
  }
  return fields;
}

Ordered options_of(const Options& options) {
  Ordered said;
  said["preset"] = options.preset ? Ordered(*options.preset) : Ordered(nullptr);
  said["steps"] = options.steps ? json_of(*options.steps) : Ordered(nullptr);
  said["shift"] = json_of(options.shift);
  said["solver"] = options.solver ? Ordered(name_of(*options.solver)) : Ordered(nullptr);
  said["ras"] = options.regions ? regions_of(*options.regions, false) : Ordered(nullptr);
  said["dense"] = options.dense;
  said["mode"] = name_of(options.mode);
  said["ratio"] = nullptr;
  if (options.ratio)
    said["ratio"] = Ordered::array({json_of(options.ratio->first), json_of(options.ratio->last)});
  said["schedule"] = nullptr;
  if (options.schedule) said["schedule"] = {options.schedule->step, options.schedule->every};
  said["changes"] = Ordered::object();
  for (const auto& [name, value] : options.changes) said["changes"][name] = json_of(value);
  said["coarse"] = coarse_of(options.coarse);
  return said;
}

Ordered about_of(const Told& told, int64_t sample) {
  const Job& job = told.job;
  const Leg& full = job.run.legs.back();
  const Preset& how = job.sampling.how;
  const auto begun = told.said ? begins_with(job.request.options) : std::nullopt;
  const int64_t scale = told.origin.numbers.downscale;
  Ordered about = {{"version", kVersion},
                   {"model", told.origin.model},
                   {"digest", told.origin.digest},
                   {"bundle", told.origin.bundle},
                   {"backend", told.origin.backend},
                   {"precision", told.origin.precision}};
  about["prompt"] = one_or_all(job.request.prompts, sample);
  about["negative"] = job.request.negative;
  about["seed"] = one_or_all(job.request.seeds, sample);
  about["size"] = {full.layout.width * scale, full.layout.height * scale};
  about["guidance"] = job.sampling.guidance.value;
  about["skip_layer_guidance"] = skips_of(job.request.skip_layer_guidance, job.run.skipped);
  about["ntk"] = job.ntk();
  about["ntk_option"] = json_of(job.request.ntk);
  about["proportional"] = job.request.proportional;
  about["preset"] = begun ? Ordered(*begun) : Ordered(nullptr);
  about["options"] = told.said ? options_of(job.request.options) : Ordered(nullptr);
  about["shift"] = how.shift.value_or(Number(1.0)).value;
  about["times"] = times_of(full.plan);
  about["ras"] = regions_of(how.regions, true);
  about["solver"] = name_of(how.solver);
  about["weights"] = Ordered::array();
  for (const Weights& w : how.weights) about["weights"].push_back({w.velocity, w.slope, w.curve});
  about["coarse"] = coarse_of(how.coarse);
  about["image"] = nullptr;
  if (job.request.canvas) {
    const bool masked = !job.request.canvas->mask.empty();
    about["image"] = {{"strength", job.request.strength.value_or(masked ? 1.0 : 0.6).value},
                      {"masked", masked}};
  }
  about["embeds"] = !job.request.embeds.empty();
  about["noise"] = job.request.noise.empty() ? "seed" : "given";
  about["tile"] = job.run.tile;
  about["pictures"] = job.request.prompts.size();
  return about;
}

void set_engine(Origin& origin, const Session& denoise) {
  origin.backend = denoise.backend;
  origin.precision = denoise.precision;
  for (const Port& port : denoise.ports()) {
    if (port.tail()) origin.value_bytes = size_of(port.dtype);
  }
}

std::string report_of(const Told& told) {
  Ordered report = about_of(told, -1);
  const Plan& plan = told.job.run.legs.back().plan;
  const Cost cost = cost_of(told);
  int64_t evaluations = 0;
  for (const StepDone& done : told.steps) evaluations += done.evaluations;
  report["evaluations"] = evaluations;
  report["tokens"] = plan.tokens;
  report["pinned"] = plan.pinned;
  report["max_age"] = plan.max_age;
  report["flop_ratio"] = cost.flop_ratio();
  report["expected_speedup"] = cost.expected_speedup();
  report["cache_bytes"] = cost.cache_bytes;
  const std::vector<double> taken = taken_of(told);
  report["seconds"] = seconds_of(told, taken);
  report["gpu"] = gpu_of(told);
  report["steps"] = Ordered::array();
  for (size_t i = 0; i < told.steps.size(); ++i)
    report["steps"].push_back(step_of(told, i, taken[i]));
  return report.dump(1);
}

std::string parameters(const Ordered& about) {
  size_t steps = about["times"].size() - 1;
  if (!about["coarse"].is_null()) {
    const Ordered& coarse = about["coarse"]["steps"];
    steps += coarse.is_array() ? coarse.size() - 1 : coarse.get<size_t>();
  }
  const auto text = [](const Ordered& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  const std::vector<std::pair<std::string, std::string>> facts = {
      {"Steps", std::to_string(steps)},
      {"Sampler", text(about["solver"])},
      {"CFG scale", brief(about["guidance"])},
      {"Seed", text(about["seed"])},
      {"Size", about["size"][0].dump() + "x" + about["size"][1].dump()},
      {"Model hash", text(about["digest"]).substr(0, 10)},
      {"Model", text(about["model"])},
      {"Version", "flagdit " + text(about["version"])}};
  std::string line;
  for (const auto& [name, value] : facts)
    line += (line.empty() ? "" : ", ") + name + ": " + quoted_value(value);
  const std::string negative = about["negative"];
  return text(about["prompt"]) + (negative.empty() ? "" : "\nNegative prompt: " + negative) + "\n" +
         line;
}

}  // namespace flagdit
