#include "flagdit/job.h"

#include <algorithm>

#include "flagdit/error.h"

namespace flagdit {
namespace {

// Options of sizes beyond training that the model's `place` has no input for.
void check_placing(const Request& request, const Model& model) {
  const bool ntk = !std::holds_alternative<std::monostate>(request.ntk) && !model.takes_ntk;
  if (ntk || (request.proportional && !model.takes_proportional)) {
    throw Error(Fault::request, std::string(ntk ? "ntk" : "proportional") +
                                    " is nothing that this model knows; leave it out");
  }
}

std::vector<const Plan*> plans_of(const std::vector<Leg>& legs) {
  std::vector<const Plan*> out;
  for (const Leg& leg : legs) out.push_back(&leg.plan);
  return out;
}

Memory memory_of(const Job& job, const Model& model, const Place& place, int64_t samples) {
  return memory(model.sizes, plans_of(job.run.legs), place.precision, {samples, job.run.branches},
                place.machine);
}

std::string describe(const Job& job, const Model& model, const Place& place) {
  const Layout& layout = job.run.legs.back().layout;
  const size_t samples = job.request.prompts.size();
  const std::string pictures = samples == 1 ? "a picture" : std::to_string(samples) + " pictures";
  return pictures + " of " + std::to_string(layout.width * model.downscale) + "x" +
         std::to_string(layout.height * model.downscale) + " with " + place.precision;
}

// What would take less.
std::string advice(const Job& job, const Place& place) {
  std::string out;
  if (place.precision != "int8-bf16") {
    out = ", or for the precision int8-bf16, which takes less";
  }
  const auto& legs = job.run.legs;
  const bool slopes =
      std::any_of(legs.begin(), legs.end(), [](const Leg& l) { return l.plan.keeps.cache_slope; });
  return slopes ? out + ", or do without forecast_kv" : out;
}

// The last one is at the full size.
std::vector<Leg> legs_of(const Request& request, const Sampling& sampling, const Model& model) {
  check_placing(request, model);
  const Preset& how = sampling.how;
  const Layout layout = layout_of(model, request.size);
  const auto placing = [&](const Layout& of) {
    return Placing{ntk_factor(model, of, request.ntk), request.proportional};
  };
  Leg full{layout, plan_of(how, layout.tokens(), layout.pinned(), model.head_multiple),
           placing(layout)};
  if (!how.coarse) return {full};
  const Layout small = coarse_layout(layout, how.coarse->factor, model.downscale);
  Plan first = coarse_plan(*how.coarse, small.tokens(), small.pinned(), how.shift.value_or(1.0));
  return {{small, first, placing(small)}, full};
}

}  // namespace

Job resolve(const Request& request, const Model& model) {
  return job_of(request, sampling_of(request, model), model);
}

Job job_of(const Request& request, const Sampling& sampling, const Model& model) {
  check(request, sampling);
  Job job{request, sampling, {}};
  job.run.legs = legs_of(request, sampling, model);
  const std::optional<Coarse>& coarse = sampling.how.coarse;
  job.run.coarse_factor = coarse ? coarse->factor : 1;
  job.run.coarse_until = coarse ? coarse->until.value : 0.0;
  job.run.seeds = request.seeds;
  job.run.branches = sampling.branches();
  job.run.guidance = sampling.guidance;
  job.run.guided = model.guided;
  job.run.renormalise = model.renormalise;
  job.run.pads = model.pads;
  return job;
}

Memory memory(const Job& job, const Model& model, const Place& place) {
  return memory_of(job, model, place, static_cast<int64_t>(job.request.prompts.size()));
}

void admit(const Job& job, const Model& model, const Place& place) {
  const auto needs = [&](int64_t samples) {
    return memory_of(job, model, place, samples).after(place.loaded);
  };
  check_memory(needs, place.room, static_cast<int64_t>(job.request.prompts.size()),
               describe(job, model, place), advice(job, place));
}

}  // namespace flagdit
