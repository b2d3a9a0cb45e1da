// What the arrays of a run begin with, and what there is to see in them.
#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "flagdit/buffers.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void fill(const Tensor& tensor, float value) {
  std::fill_n(tensor.as<float>(), bytes_of(tensor.dtype, tensor.shape) / 4, value);
}

// Where tokens share one value for all samples it
// must be the same in all patches, since those move.
void check_shared(const Tensor& by_token, const std::vector<int32_t>& slots, int64_t pinned,
                  int64_t bytes, const std::string& name) {
  const auto* data = by_token.as<std::byte>();
  for (size_t slot = static_cast<size_t>(pinned) + 1; slot < slots.size(); ++slot) {
    if (std::memcmp(data + slots[slot] * bytes, data + slots[slot - 1] * bytes,
                    static_cast<size_t>(bytes)) != 0)
      throw Error(Fault::bundle, name +
                                     " has no row for each sample, and differs among patches; "
                                     "export the model again");
  }
}

}  // namespace

void Buffers::begin(const float* start, const std::vector<Bound>& by_token) {
  const Layout& layout = extent.layout;
  const int64_t b = extent.samples, p = layout.patch_values(), pinned = layout.pinned();
  const std::vector<int32_t> slots = layout.slots();
  auto* ids = token.as<int32_t>();
  for (size_t slot = 0; slot < slots.size(); ++slot)
    std::fill_n(ids + static_cast<int64_t>(slot) * b, b, slots[slot]);
  layout.patchify(start, b, latent.as<float>() + pinned * b * p);
  const int64_t rows = tokens.shape[1];
  for (int64_t row = 0; row < static_cast<int64_t>(slots.size()) * rows; ++row) {
    const int64_t from = row / rows * b + row % rows % b;
    std::copy_n(latent.as<float>() + from * p, p, tokens.as<float>() + row * p);
  }
  if (history) {
    fill(history->time, -kInfinity);
    // What may change in any way is computed first.
    fill(history->rate, kInfinity);
  }
  for (auto& groups : forecast_arrays)
    for (ForecastArrays& group : groups) fill(group.anchored, -kInfinity);
  for (const Bound& bound : placed) {
    const Tensor& values = find(by_token, bound.name)->tensor;
    const bool repeated = find(ports_, bound.name)->by_row();
    const int64_t copies = repeated ? rows : 1;
    const int64_t bytes = bytes_of(bound.tensor.dtype, bound.tensor.shape) /
                          (static_cast<int64_t>(slots.size()) * copies);
    if (!repeated) check_shared(values, slots, pinned, bytes, bound.name);
    auto* out = bound.tensor.as<std::byte>();
    for (const int32_t id : slots)
      for (int64_t copy = 0; copy < copies; ++copy, out += bytes)
        std::memcpy(out, values.as<std::byte>() + id * bytes, static_cast<size_t>(bytes));
  }
}

void Buffers::latents(float* out, double ahead) const {
  const Layout& layout = extent.layout;
  const int64_t b = extent.samples, p = layout.patch_values(), n = layout.tokens();
  const auto by = static_cast<float>(ahead);
  std::vector<float> patches(static_cast<size_t>(layout.patches() * b * p));
  for (int64_t row = layout.pinned() * b; row < n * b; ++row) {
    const int64_t patch = layout.patch_of(token.as<int32_t>()[row]);
    const float* x = latent.as<float>() + row * p;
    const float* v = velocity.as<float>() + row * p;
    float* to = patches.data() + (patch * b + row % b) * p;
    for (int64_t i = 0; i < p; ++i) to[i] = ahead == 0.0 ? x[i] : x[i] + by * v[i];
  }
  layout.unpatchify(patches.data(), b, out);
}

void Buffers::ages(int16_t* out) const {
  const Layout& layout = extent.layout;
  const int64_t b = extent.samples;
  for (int64_t row = layout.pinned() * b; row < layout.tokens() * b; ++row) {
    const int64_t patch = layout.patch_of(token.as<int32_t>()[row]);
    out[row % b * layout.patches() + patch] = static_cast<int16_t>(age.as<int32_t>()[row]);
  }
}

}  // namespace flagdit
