#include "flagdit/memory.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "flagdit/error.h"

namespace flagdit {
namespace {

constexpr Footprint kFloat32{10, 6.0, 3.2, 3.3, 4, true};
constexpr Footprint kInt8{5, 7.0, 4.0, 3.5, 4, true};
constexpr Footprint kInt8Bf16{3, 4.8, 1.2, 0.0, 2, false};
// On a GPU: counted, and not measured yet. A graph holds queries, keys and values or two parts of
// the hidden layer beside what goes through, in two bytes each.
constexpr Footprint kHalf{2, 4.0, 2.0, 1.5, 2, false};

struct Leg {
  double caches, state, activations, scores;

  double total() const { return caches + state + activations + scores; }
};

// Scores of attention to the tokens, or to the text,
// whose mask has a number for each query besides.
double scores_of(const Sizes& sizes, double tokens, double rows, double threads) {
  const double pairs = rows * static_cast<double>(sizes.heads);
  const auto text = static_cast<double>(sizes.text);
  double most = 0.0;
  for (double keys : {tokens, text}) {
    const double whole = 4 * pairs * tokens * keys;
    const double block = std::max<double>(kScoreBlock, 4 * kLeastQueries * keys);
    const double blocks = std::min(threads, pairs * std::ceil(tokens / kLeastQueries)) * block;
    most = std::max(most, whole <= kWholeScores ? whole : std::min(whole, blocks));
  }
  return most + 4 * rows * tokens * text;
}

// The first step computes all tokens, so none takes more.
Leg leg_of(const Sizes& sizes, const Plan& plan, const Footprint& print, const Batch& batch,
           int64_t threads) {
  const bool apart = plan.keeps.difference && batch.branches > 1;
  const auto n = static_cast<double>(plan.tokens), samples = static_cast<double>(batch.samples);
  const auto branches = static_cast<double>(batch.branches + (plan.skips_layers() ? 1 : 0));
  const double rows = apart ? samples : samples * branches;
  const auto patch = static_cast<double>(sizes.patch), place = static_cast<double>(sizes.place);
  Batch cached = batch;
  cached.value_bytes = print.value_bytes;
  cached.text = sizes.text;
  Leg leg{};
  leg.caches = static_cast<double>(price(sizes, plan, cached).cache_bytes);
  // Per sample: latent, noise and pictures, what `advance`
  // and `select` know; per row: tokens, angles, velocity.
  leg.state =
      4 * n * (samples * (4 * patch + 12) + rows * (patch + place) + samples * branches * patch);
  leg.activations = std::nearbyint(4 * n * rows *
                                   (print.live_width * static_cast<double>(sizes.width) +
                                    print.live_keys * static_cast<double>(sizes.keys) +
                                    print.live_hidden * static_cast<double>(sizes.hidden)));
  leg.scores = print.scores ? scores_of(sizes, n, rows, static_cast<double>(threads)) : 0.0;
  return leg;
}

// What `condition` makes, for each different text and
// then for all rows; its own activations are as large.
double conditions_of(const Sizes& sizes, int64_t calls, const Batch& batch, bool skips) {
  const int64_t skipping = skips ? batch.samples : 0;  // rows, each of a text of its own
  const auto rows = static_cast<double>(batch.samples * batch.branches + skipping);
  const auto texts = static_cast<double>(batch.samples + batch.branches - 1 + skipping);
  const double keys =
      4.0 * static_cast<double>(sizes.text) * static_cast<double>(sizes.text_values);
  const double modulations =
      4.0 * static_cast<double>(calls) * static_cast<double>(sizes.step_values);
  return (keys + modulations) * (rows + texts + 1) + modulations;
}

std::string gigabytes(int64_t bytes) {
  char text[40];
  std::snprintf(text, sizeof text, "%.2f", static_cast<double>(bytes) / 1e9);
  return text;
}

}  // namespace

const Footprint& footprint_of(const std::string& precision) {
  if (precision == "float32") return kFloat32;
  if (precision == "int8") return kInt8;
  if (precision == "int8-bf16") return kInt8Bf16;
  if (precision == "float16" || precision == "bfloat16" || precision == "fp8") return kHalf;
  throw std::invalid_argument(
      "precision: got '" + precision +
      "', allowed 'float32', 'int8', 'int8-bf16', 'float16', 'bfloat16', 'fp8'");
}

int64_t Memory::total() const {
  return program + weights + caches + state + conditions + std::max(activations + scores, decode);
}

int64_t Memory::after(int64_t loaded) const {
  return total() + std::max<int64_t>(loaded - program - weights, 0);
}

Memory memory(const Sizes& sizes, const std::vector<const Plan*>& plans,
              const std::string& precision, const Batch& batch, const Machine& machine) {
  if (plans.empty()) throw std::invalid_argument("memory: plans: got none, allowed one or more");
  const Footprint& print = footprint_of(precision);
  int64_t calls = 0, steps = 0;
  bool skips = false;
  Leg most{-1, 0, 0, 0};
  for (const Plan* plan : plans) {
    calls += static_cast<int64_t>(plan->evaluations.size());
    steps += static_cast<int64_t>(plan->steps.size());
    skips = skips || plan->skips_layers();
    const Leg leg = leg_of(sizes, *plan, print, batch, machine.threads);
    if (leg.total() > most.total()) most = leg;
  }
  const double ages =
      2.0 * static_cast<double>(steps * batch.samples) * static_cast<double>(plans.back()->tokens);
  Memory out;
  out.program = machine.program;
  out.weights = capped(static_cast<double>(print.weight) * static_cast<double>(sizes.parameters));
  out.caches = capped(most.caches);
  out.state = capped(most.state + ages);
  out.conditions = capped(conditions_of(sizes, calls, batch, skips));
  out.activations = capped(most.activations);
  out.scores = capped(most.scores);
  return out;
}

void check_memory(const std::function<int64_t(int64_t)>& needs, std::optional<int64_t> present,
                  int64_t samples, const std::string& what, const std::string& less) {
  if (!present || needs(samples) <= *present) return;
  int64_t fits = samples - 1;
  while (fits > 0 && needs(fits) > *present) --fits;
  const std::string change =
      fits > 0 ? "allowed are " + std::to_string(fits) + " pictures of this size at a time"
               : "ask for a smaller size";
  throw Error(Fault::request, what + ": about " + gigabytes(needs(samples)) +
                                  " GB of memory are needed, and this process may hold " +
                                  gigabytes(*present) + " GB; " + change + less);
}

}  // namespace flagdit
