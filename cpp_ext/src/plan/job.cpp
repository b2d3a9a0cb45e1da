#include "flagdit/job.h"

#include <algorithm>
#include <utility>

#include "flagdit/autoencoder.h"
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

std::string in_parentheses(const std::vector<int64_t>& sizes) {
  std::string out;
  for (const int64_t size : sizes) out += (out.empty() ? "(" : ", ") + std::to_string(size);
  return out.empty() ? "()" : out + ")";
}

std::pair<int64_t, int64_t> size_of(const Job& job, const Model& model) {
  const Layout& layout = job.run.legs.back().layout;
  return {layout.width * model.downscale, layout.height * model.downscale};
}

Memory memory_of(const Job& job, const Model& model, const Place& place, int64_t samples) {
  Memory out = memory(model.sizes, plans_of(job.run.legs), place.precision,
                      {samples, job.run.branches}, place.machine);
  const auto [width, height] = size_of(job, model);
  const int64_t tile = job.run.tile == 0 ? std::max(width, height) : job.run.tile;
  if (model.decodes) out.decode = decode_bytes(std::min(width, tile), std::min(height, tile));
  // Before the steps, as decoding is after them: what takes more counts.
  if (model.encodes && job.run.canvas)
    out.decode = std::max(out.decode, encode_bytes(width, height));
  return out;
}

std::string describe(const Job& job, const Model& model, const Place& place) {
  const auto [width, height] = size_of(job, model);
  const size_t samples = job.request.prompts.size();
  const std::string pictures = samples == 1 ? "a picture" : std::to_string(samples) + " pictures";
  return pictures + " of " + std::to_string(width) + "x" + std::to_string(height) + " with " +
         place.precision;
}

// That the latents to begin with are those of the pictures.
void check_noise(const Request& request, const Layout& layout) {
  const auto samples = static_cast<int64_t>(request.prompts.size());
  const std::vector<int64_t> wanted{samples, layout.channels, layout.height, layout.width};
  if (!request.noise_shape.empty() && request.noise_shape != wanted) {
    throw Error(Fault::request, "latents are " + in_parentheses(request.noise_shape) +
                                    "; allowed are " + in_parentheses(wanted) +
                                    ": pictures, channels, height and width");
  }
  const int64_t values = samples * layout.values();
  if (request.noise.empty() || static_cast<int64_t>(request.noise.size()) == values) return;
  throw Error(Fault::request, "latents have " + std::to_string(request.noise.size()) +
                                  " values; allowed are " + std::to_string(values));
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

// That a picture to begin with fits the model; the size is the picture's, unless it is said.
void check_canvas(const Request& request, const Model& model) {
  if (!request.canvas) {
    if (!request.strength) return;
    throw Error(Fault::request, "there is a strength and no picture that it is of; give an image");
  }
  if (model.vae && !model.encodes) {
    throw Error(Fault::backend,
                "the model begins with no picture: its bundle has no encode graph; export it with "
                "--vae");
  }
  const Canvas& canvas = *request.canvas;
  const auto text = [](int64_t width, int64_t height) {
    return std::to_string(width) + "x" + std::to_string(height);
  };
  const Size size = request.size.value_or(Size{canvas.width, canvas.height});
  if (size.width == canvas.width && size.height == canvas.height) return;
  throw Error(Fault::request, "the image is " + text(canvas.width, canvas.height) +
                                  " and the size " + text(size.width, size.height) +
                                  "; make the image of that size, or leave the size out");
}

std::optional<Size> size_said(const Request& request) {
  if (request.size || !request.canvas) return request.size;
  return Size{request.canvas->width, request.canvas->height};
}

// The preset that is left of one, with a picture.
Preset how_of(const Request& request, const Sampling& sampling, const Model& model) {
  if (!request.canvas) return sampling.how;
  const Canvas& canvas = *request.canvas;
  const Layout layout = layout_of(model, size_said(request));
  const double share = canvas.share(layout, model.downscale);
  if (share == 0) {
    throw Error(Fault::request,
                "the mask keeps all of the image; make white what is to be painted anew");
  }
  return begun(sampling.how, request.strength.value_or(canvas.mask.empty() ? 0.6 : 1.0), share);
}

// The last one is at the full size.
std::vector<Leg> legs_of(const Request& request, const Sampling& sampling, const Model& model) {
  check_placing(request, model);
  const Preset& how = sampling.how;
  const Layout layout = layout_of(model, size_said(request));
  const auto placing = [&](const Layout& of) {
    return Placing{ntk_factor(model, of, request.ntk), request.proportional};
  };
  const auto phases = [&](const Layout& of) { return phases_at(model, placing(of).ntk); };
  const int64_t coarse = how.coarse ? count_of(how.coarse->steps) : 0;
  StepRange skips;
  if (request.skip_layer_guidance)
    skips = skip_steps(*request.skip_layer_guidance, coarse + how.count());
  Leg full{layout,
           plan_of(how, layout.tokens(), layout.pinned(), model.head_multiple, phases(layout),
                   skips.from(coarse)),
           placing(layout)};
  check_rest(full.plan, model);
  if (!how.coarse) return {full};
  const Layout small = coarse_layout(layout, how.coarse->factor, model.downscale);
  Plan first = coarse_plan(*how.coarse, small.tokens(), small.pinned(), how.shift.value_or(1.0),
                           phases(small), skips);
  return {{small, first, placing(small)}, full};
}

}  // namespace

Job resolve(const Request& request, const Model& model) {
  return job_of(request, sampling_of(request, model), model);
}

Job job_of(const Request& request, const Sampling& sampling, const Model& model) {
  check(request, sampling);
  check_canvas(request, model);
  Job job{request, {how_of(request, sampling, model), sampling.guidance}, {}};
  job.run.legs = legs_of(request, job.sampling, model);
  const std::optional<Coarse>& coarse = job.sampling.how.coarse;
  job.run.coarse_factor = coarse ? coarse->factor : 1;
  job.run.coarse_until = coarse ? coarse->until.value : 0.0;
  job.run.seeds = request.seeds;
  job.run.branches = sampling.branches();
  if (const auto& skips = request.skip_layer_guidance) {
    job.run.skipped = skipped_layers(*skips, model.layers, model.skipped);
    job.run.skip_guidance = skips->scale;
  }
  job.run.guidance = sampling.guidance;
  job.run.guided = model.guided;
  job.run.renormalise = model.renormalise;
  job.run.pads = model.pads;
  check_noise(request, job.run.legs.back().layout);
  job.run.noise = request.noise;
  job.run.downscale = model.downscale;
  if (request.canvas) {
    Leg& full = job.run.legs.back();
    job.run.canvas = request.canvas;
    full.plan.keeps.known = request.canvas->share(full.layout, model.downscale) < 1;
  }
  if (request.tile) check_tile(*request.tile, model.vae ? model.downscale : 1);
  const auto [width, height] = size_of(job, model);
  if (model.decodes) job.run.tile = request.tile.value_or(tile_of(width, height, kMostWhole));
  return job;
}

void check_rest(const Plan& plan, const Model& model) {
  if (!plan.rest_text || may_rest(model, plan.tokens)) return;
  if (model.sizes.text_cached == 0)
    throw Error(
        Fault::request,
        "rest_text is true, and this model's text cannot rest: its denoise gives no keys and "
        "values of the text; leave rest_text out, or export the model again if it was before this "
        "was possible");
  throw Error(Fault::request, "rest_text is true, and the picture has " +
                                  std::to_string(plan.tokens) +
                                  " tokens; this model's text can rest beside a multiple of " +
                                  std::to_string(model.head_multiple) +
                                  ": choose another size, or leave rest_text out");
}

Memory memory(const Job& job, const Model& model, const Place& place) {
  return memory_of(job, model, place, static_cast<int64_t>(job.request.prompts.size()));
}

void admit(Job& job, const Model& model, const Place& place) {
  const auto samples = static_cast<int64_t>(job.request.prompts.size());
  const int64_t whole = memory_of(job, model, place, samples).after(place.loaded);
  if (place.room && whole > *place.room && !job.request.tile && model.decodes) {
    const auto [width, height] = size_of(job, model);
    job.run.tile = tile_of(width, height, 0);
  }
  const auto needs = [&](int64_t samples) {
    return memory_of(job, model, place, samples).after(place.loaded);
  };
  check_memory(needs, place.room, samples, describe(job, model, place), advice(job, place));
}

}  // namespace flagdit
