#include "flagdit/price.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace flagdit {
namespace {

// What a plan keeps of its tokens. Sizes of hostile models would overflow whole numbers; doubles
// count bytes of real ones exactly.
double bytes_kept(const Sizes& sizes, const Plan& plan, const Batch& batch) {
  const Keeps& keeps = plan.keeps;
  const auto tokens = static_cast<double>(plan.tokens),
             samples = static_cast<double>(batch.samples);
  const auto branches = static_cast<double>(batch.branches + (plan.skips_layers() ? 1 : 0));
  const auto value_bytes = static_cast<double>(batch.value_bytes);
  const double scalar = tokens * samples * 4, velocity = scalar * static_cast<double>(sizes.patch);
  const double values = tokens * samples * branches * static_cast<double>(sizes.cached);
  const double of_text =
      static_cast<double>(batch.text) * samples * branches * static_cast<double>(sizes.text_cached);
  const bool apart = keeps.difference && batch.branches > 1;
  double bytes = (values + of_text) * value_bytes + velocity;
  if (keeps.rate) bytes += 2 * scalar;
  if (keeps.slope) bytes += velocity;
  if (keeps.curve) bytes += velocity + scalar;
  if (apart) bytes += velocity;
  // The last computed ones, their slopes in bfloat16, and when.
  if (keeps.cache_slope) bytes += values * (value_bytes + 2) + scalar * (apart ? branches : 1);
  return bytes;
}

std::vector<Taken> planned(const Plan& plan, int64_t branches) {
  std::vector<Taken> out;
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const int64_t usual = plan.unconditional.at(i) ? branches : 1;
    out.push_back({plan.steps[i].active, usual + (plan.skips.at(i) ? 1 : 0)});
  }
  return out;
}

}  // namespace

double Cost::total() const {
  double sum = 0.0;
  for (double flops_of_one : flops) sum += flops_of_one;
  return sum;
}

double Cost::flop_ratio() const {
  return total() / (dense_flops * static_cast<double>(flops.size()));
}

bool Cost::operator==(const Cost& other) const {
  return flops == other.flops && dense_flops == other.dense_flops &&
         cache_bytes == other.cache_bytes;
}

Cost Cost::after(const Cost& coarse) const {
  Cost out{coarse.flops, dense_flops, std::max(coarse.cache_bytes, cache_bytes)};
  out.flops.insert(out.flops.end(), flops.begin(), flops.end());
  return out;
}

int64_t capped(double bytes) {
  return static_cast<int64_t>(std::nearbyint(std::min(bytes, std::ldexp(1.0, 59))));
}

double step_flops(const Price& price, int64_t active, int64_t tokens, int64_t rows, int64_t text,
                  bool rests) {
  const auto a = static_cast<double>(active), t = static_cast<double>(text);
  const auto keys = static_cast<double>(tokens + text);
  const double of_tokens = a * (price.token + keys * price.pair);
  const double of_text = rests ? 0.0 : t * (price.text + keys * price.text_pair);
  return static_cast<double>(rows) * (of_tokens + of_text);
}

Cost price(const Sizes& sizes, const Plan& plan, const Batch& batch,
           const std::optional<std::vector<Taken>>& taken) {
  const std::vector<Taken> computed = taken ? *taken : planned(plan, batch.branches);
  if (computed.size() != plan.steps.size()) {
    throw std::invalid_argument("price: taken: got " + std::to_string(computed.size()) +
                                ", allowed " + std::to_string(plan.steps.size()) +
                                ", one for each step");
  }
  const auto flops = [&](const Taken& step) {
    return step_flops(sizes.price, step.active, plan.tokens, batch.samples * step.branches,
                      batch.text, plan.rests_with(step.active));
  };
  Cost out;
  for (const Evaluation& evaluation : plan.evaluations) {
    out.flops.push_back(flops(computed.at(static_cast<size_t>(evaluation.step))));
  }
  out.dense_flops = flops({plan.tokens, batch.branches});
  out.cache_bytes = capped(bytes_kept(sizes, plan, batch));
  return out;
}

}  // namespace flagdit
