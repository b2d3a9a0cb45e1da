// What the arrays of a run begin with, and what there is to see in them.
#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "cast.h"
#include "flagdit/buffers.h"
#include "flagdit/device.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The values of a tensor for the host: its own memory on the CPU, a copy of it elsewhere.
class HostCopy {
 public:
  explicit HostCopy(const Tensor& tensor) : tensor_(tensor), data_(tensor.as<std::byte>()) {
    if (tensor.device == Device::cpu) return;
    copy_.resize(static_cast<size_t>(bytes_of(tensor.dtype, tensor.shape)));
    data_ = copy_.data();
  }
  const HostCopy& fetch(Stream stream) const {
    if (!copy_.empty()) read(data_, tensor_, stream);
    return *this;
  }
  void store(Stream stream) const {
    if (!copy_.empty()) write(tensor_, data_, stream);
  }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  const Tensor& tensor_;
  std::vector<std::byte> copy_;
  std::byte* data_;
};

void fill(const Tensor& tensor, float value, Stream stream) {
  const HostCopy host(tensor);
  std::fill_n(host.as<float>(), bytes_of(tensor.dtype, tensor.shape) / 4, value);
  host.store(stream);
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

// Rows of the tokens in slots, one a sample and branch, from values (N, ...) by token. ids: (N, B);
// row r belongs to sample r % B, and one row to all.
void put(const Tensor& by_token, const int32_t* ids, int64_t samples, int64_t copies,
         const Tensor& out, Stream stream) {
  const int64_t slots = by_token.shape[0];
  const int64_t bytes = bytes_of(out.dtype, out.shape) / (slots * copies);
  const HostCopy host(out);
  auto* to = host.as<std::byte>();
  for (int64_t slot = 0; slot < slots; ++slot)
    for (int64_t copy = 0; copy < copies; ++copy, to += bytes)
      std::memcpy(to, by_token.as<std::byte>() + ids[slot * samples + copy % samples] * bytes,
                  static_cast<size_t>(bytes));
  host.store(stream);
}

}  // namespace

void Buffers::begin(const float* start, const std::vector<Bound>& by_token, Stream stream) {
  const Layout& layout = extent.layout;
  const int64_t b = extent.samples, p = layout.patch_values(), pinned = layout.pinned();
  const std::vector<int32_t> slots = layout.slots();
  const auto n = static_cast<int64_t>(slots.size()), rows = tokens.shape[1];
  const HostCopy ids(token), x(latent), read(tokens);
  for (int64_t slot = 0; slot < n; ++slot)
    std::fill_n(ids.as<int32_t>() + slot * b, b, slots[static_cast<size_t>(slot)]);
  layout.patchify(start, b, x.as<float>() + pinned * b * p);
  for (int64_t row = 0; row < n * rows; ++row) {
    const int64_t from = row / rows * b + row % rows % b, bytes = size_of(tokens.dtype) * p;
    narrow(x.as<float>() + from * p, p, tokens.dtype, read.as<std::byte>() + row * bytes);
  }
  for (const HostCopy* host : {&ids, &x, &read}) host->store(stream);
  // What may change in any way is computed first.
  if (history) fill(history->rate, kInfinity, stream);
  forget(stream);
  place(by_token, ids.as<int32_t>(), stream);
}

void Buffers::place(const std::vector<Bound>& by_token, const int32_t* ids, Stream stream) const {
  const std::vector<int32_t> slots = extent.layout.slots();
  for (const Bound& bound : placed) {
    const Tensor& values = find(by_token, bound.name)->tensor;
    const bool repeated = find(ports_, bound.name)->by_row();
    if (!repeated)
      check_shared(values, slots, extent.layout.pinned(),
                   bytes_of(values.dtype, values.shape) / values.shape[0], bound.name);
    put(values, ids, extent.samples, repeated ? bound.tensor.shape[1] : 1, bound.tensor, stream);
  }
}

void Buffers::turn(Stream stream) const {
  if (history) fill(history->time, -kInfinity, stream);
}

// The next velocity makes no slope, nor do the next keys and values: as with the first ones.
void Buffers::forget(Stream stream) const {
  turn(stream);
  for (const auto& groups : forecast_arrays)
    for (const ForecastArrays& group : groups) fill(group.anchored, -kInfinity, stream);
}

void Buffers::place_anew(const std::vector<Bound>& by_token, Stream stream) {
  const HostCopy ids(token);
  place(by_token, ids.fetch(stream).as<int32_t>(), stream);
  forget(stream);
}

void Buffers::begin_known(const uint8_t* patches, const float* towards, Stream stream) {
  const Layout& layout = extent.layout;
  const int64_t b = extent.samples, p = layout.patch_values(), pinned = layout.pinned();
  const HostCopy flags(*known), velocities(*known_velocity);
  std::memset(flags.as<uint8_t>(), 0, static_cast<size_t>(pinned * b));
  std::fill_n(velocities.as<float>(), pinned * b * p, 0.0f);
  layout.patchify(towards, b, velocities.as<float>() + pinned * b * p);
  for (int64_t patch = 0; patch < layout.patches(); ++patch)
    std::memset(flags.as<uint8_t>() + (pinned + patch) * b, patches[patch], static_cast<size_t>(b));
  for (const HostCopy* host : {&flags, &velocities}) host->store(stream);
}

void latents_of(const Extent& extent, const int32_t* token, const float* latent,
                const float* velocity, double ahead, float* out) {
  const Layout& layout = extent.layout;
  const int64_t b = extent.samples, p = layout.patch_values(), n = layout.tokens();
  const auto by = static_cast<float>(ahead);
  std::vector<float> patches(static_cast<size_t>(layout.patches() * b * p));
  for (int64_t row = layout.pinned() * b; row < n * b; ++row) {
    const float *x = latent + row * p, *v = velocity + row * p;
    float* to = patches.data() + (layout.patch_of(token[row]) * b + row % b) * p;
    for (int64_t i = 0; i < p; ++i) to[i] = ahead == 0.0 ? x[i] : x[i] + by * v[i];
  }
  layout.unpatchify(patches.data(), b, out);
}

void Buffers::latents(float* out, double ahead, Stream stream) const {
  const HostCopy ids(token), x(latent), v(velocity);
  for (const HostCopy* host : {&ids, &x}) host->fetch(stream);
  if (ahead != 0.0) v.fetch(stream);
  latents_of(extent, ids.as<int32_t>(), x.as<float>(), v.as<float>(), ahead, out);
}

void Buffers::ages(int16_t* out, Stream stream) const {
  const Layout& layout = extent.layout;
  const int64_t b = extent.samples;
  const HostCopy ids(token), old(age);
  for (const HostCopy* host : {&ids, &old}) host->fetch(stream);
  for (int64_t row = layout.pinned() * b; row < layout.tokens() * b; ++row) {
    const int64_t patch = layout.patch_of(ids.as<int32_t>()[row]);
    out[row % b * layout.patches() + patch] = static_cast<int16_t>(old.as<int32_t>()[row]);
  }
}

}  // namespace flagdit
