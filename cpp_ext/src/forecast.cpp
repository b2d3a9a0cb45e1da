#include "flagdit/forecast.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "check.h"
#include "flagdit/device.h"
#include "forecast_kernel.h"
#include "upload.h"

namespace flagdit {
namespace {

void check_layout(const ForecastLayout& layout, const Tensor& anchored) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check_range("CacheForecast: slots", layout.slots, 1, kMost);
  check_range("CacheForecast: samples", layout.samples, 1, kMost);
  check_range("CacheForecast: values of a row", layout.width, 1, kMost);
  if (layout.rows < layout.samples || layout.rows % layout.samples != 0) {
    refuse("CacheForecast: rows", std::to_string(layout.rows),
           "a multiple of the " + std::to_string(layout.samples) + " samples");
  }
  const bool half = layout.dtype == DType::f16 && layout.device == Device::cuda;
  if (layout.dtype != DType::f32 && layout.dtype != DType::bf16 && !half) {
    refuse("CacheForecast: dtype", to_string(layout.dtype) + " on " + to_string(layout.device),
           "float32, bfloat16, on cuda also float16");
  }
  check_tensor("CacheForecast: anchored", anchored, DType::f32, {layout.slots, layout.samples},
               layout.device);
}

// Loops read and write them as what they are, and no two at the same place.
void check_caches(const std::vector<ForecastCache>& caches, const ForecastLayout& layout) {
  const int64_t size = layout.dtype == DType::f32 ? 4 : 2;
  const int64_t values =
      product("CacheForecast: values", {layout.slots, layout.rows, layout.width});
  std::vector<Range> ranges;
  const auto add = [&](const void* data, int64_t bytes) {
    if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(bytes) != 0)
      refuse("CacheForecast: address", std::to_string(reinterpret_cast<uintptr_t>(data)),
             "a multiple of the " + std::to_string(bytes) + " bytes of a value");
    const auto* first = static_cast<const std::byte*>(data);
    ranges.push_back({first, first + product("CacheForecast: bytes", {values, bytes})});
  };
  for (const ForecastCache& cache : caches) {
    add(cache.values, size);
    add(cache.anchor, size);
    add(cache.slope, 2);
  }
  check_apart("CacheForecast: arrays", std::move(ranges));
}

void check_table(const ForecastStep& step, const ForecastLayout& layout) {
  const Tensor& numbers = step.table->numbers;
  check_rank("move: table", numbers, 2);
  check_tensor("move: table", numbers, DType::f32, {std::max<int64_t>(numbers.shape[0], 1), 4},
               layout.device);
  check_tensor("move: entry", step.table->entry, DType::i32, {1}, layout.device);
  check_range("move: slots with a table", layout.slots, 1, int64_t{1} << 24);
  if (step.fresh != 0 || step.time != 0.0f || step.target != 0.0f || step.damping != 0.0f)
    refuse("move: fresh, time, target, damping", "numbers", "0 with a table");
}

void check_step(const ForecastStep& step, int64_t slots) {
  check_range("move: fresh", step.fresh, 0, slots);
  check_range("move: active", step.active, 0, slots);
  check_finite("move: time", step.time);
  check_finite("move: target", step.target);
  if (!(step.damping >= 0.0f && step.damping <= 1.0f))
    refuse("move: damping", std::to_string(step.damping), "0..1");
}

}  // namespace

CacheForecast::CacheForecast(std::vector<ForecastCache> caches, const Tensor& anchored,
                             ForecastLayout layout)
    : caches_(std::move(caches)), anchored_(anchored), layout_(layout) {
  check_layout(layout, anchored);
  check_caches(caches_, layout);
  const int64_t bytes = product("CacheForecast: bytes", {3, layout.slots, layout.samples, 4});
  scratch_ = allocate(layout.device, bytes);
  if (layout.device == Device::cuda) table_ = upload_cuda(caches_, "CacheForecast");
}

void CacheForecast::move(const std::optional<Swaps>& swaps, const ForecastStep& step,
                         Stream stream) const {
  check_step(step, layout_.slots);
  if (step.table) check_table(step, layout_);
  ForecastKernel k{};
  if (swaps) {
    const int64_t samples = layout_.samples;
    check_tensor("move: swaps", swaps->pairs, DType::i32, {samples, layout_.slots, 2},
                 layout_.device);
    check_tensor("move: counts", swaps->counts, DType::i32, {samples}, layout_.device);
    k.swaps = swaps->pairs.as<int32_t>();
    k.counts = swaps->counts.as<int32_t>();
  }
  const int64_t tokens = layout_.slots * layout_.samples;
  k.count = static_cast<int64_t>(caches_.size());
  k.layout = layout_;
  k.step = {step.fresh, step.time, step.active, step.target, step.damping, step.tail};
  if (step.table) {
    k.numbers = step.table->numbers.as<float>();
    k.entry = {step.table->entry.as<int32_t>(), step.table->numbers.shape[0]};
  }
  k.anchored = anchored_.as<float>();
  k.gain = static_cast<float*>(scratch_.get());
  k.ahead = k.gain + tokens;
  k.partner = static_cast<int32_t*>(scratch_.get()) + 2 * tokens;
  if (layout_.device == Device::cpu) {
    k.caches = caches_.data();
    k.step = numbers_of(k);
    forecast_cpu(k);
  } else {
    k.caches = static_cast<const ForecastCache*>(table_.get());
    forecast_cuda(k, stream);
  }
}

}  // namespace flagdit
