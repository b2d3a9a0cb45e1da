#include "flagdit/buffers.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "../head_multiple.h"
#include "flagdit/checked.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

// The sizes of a port with so many slots and rows. Throws Error if another axis has no size.
Shape shape_of(const Port& port, int64_t slots, int64_t rows) {
  std::vector<int64_t> sizes;
  for (const Axis& axis : port.axes) {
    if (const auto* size = std::get_if<int64_t>(&axis)) {
      sizes.push_back(*size);
    } else if (axis == Axis("R")) {
      sizes.push_back(rows);
    } else if (sizes.empty()) {
      sizes.push_back(slots);
    } else {
      throw Error(Fault::bundle, port.name + " is " + to_string(port.axes) +
                                     "; allowed behind its slots are R and sizes");
    }
  }
  return Shape(sizes.data(), static_cast<int>(sizes.size()));
}

// Slots, and as many more as it takes for what comes behind them to be at a multiple of 256 bytes.
int64_t aligned(int64_t slots, int64_t slot_bytes) {
  const int64_t multiple = aligned_multiple(slot_bytes);
  return (slots + multiple - 1) / multiple * multiple;
}

// A cache for all slots, and what the text adds to it.
void add_cache(Call& call, const Port& port, const Extent& extent, bool text, Arena& arena) {
  const int64_t n = extent.layout.tokens();
  const int64_t begin = text ? aligned(n, bytes_of(port.dtype, shape_of(port, 1, call.rows))) : -1;
  const int64_t slots = text ? sum("cache", {begin, extent.text}) : n;
  call.caches.push_back(arena.make(port.dtype, shape_of(port, slots, call.rows)));
  call.texts.push_back(begin);
}

int64_t width_of(const Tensor& cache) {
  return product("cache", cache.shape.sizes.data() + 2, static_cast<size_t>(cache.shape.rank) - 2);
}

std::optional<History> history_of(const Keeps& keeps, int64_t n, int64_t b, int64_t p,
                                  Arena& arena) {
  if (!keeps.rate) return std::nullopt;
  History out{arena.make(DType::f32, {n, b}), arena.make(DType::f32, {n, b})};
  if (keeps.slope) out.slope = arena.make(DType::f32, {n, b, p});
  if (keeps.curve) {
    out.curve = arena.make(DType::f32, {n, b, p});
    out.span = arena.make(DType::f32, {n, b});
  }
  return out;
}

// By width, in the order of the caches: of most models all are of one.
std::vector<ForecastArrays> forecast_of(const Call& call, int64_t n, int64_t b, Arena& arena) {
  std::vector<ForecastArrays> groups;
  std::map<int64_t, size_t> known;
  for (const Tensor& cache : call.caches) {
    const auto [at, fresh] = known.emplace(width_of(cache), groups.size());
    if (fresh) groups.push_back({{}, {}, arena.make(DType::f32, {n, b})});
    ForecastArrays& group = groups[at->second];
    Shape slots = cache.shape;  // without what a text adds
    slots.sizes[0] = n;
    group.anchors.push_back(arena.make(cache.dtype, slots));
    group.slopes.push_back(arena.make(DType::bf16, slots));
  }
  return groups;
}

// A tensor by slot, (N, rows, ...), as something that moves.
SlotBuffer moving(const Tensor& tensor, bool recomputed = false) {
  const int64_t rows = tensor.shape[1];
  const int64_t bytes = bytes_of(tensor.dtype, tensor.shape);
  return {tensor.as<std::byte>(), rows, bytes / std::max<int64_t>(tensor.shape[0] * rows, 1),
          recomputed};
}

}  // namespace

Buffers::Buffers(const std::vector<Port>& ports, const Extent& sizes, const Keeps& keeps,
                 Arena& arena)
    : extent(sizes), ports_(ports) {
  const int64_t n = extent.layout.tokens(), b = extent.samples, p = extent.layout.patch_values();
  const bool apart = extent.branches > 1 && keeps.difference;
  const int64_t count = apart ? extent.branches : 1, rows = extent.rows() / count;
  token = arena.make(DType::i32, {n, b});
  latent = arena.make(DType::f32, {n, b, p});
  velocity = arena.make(DType::f32, {n, b, p});
  history = history_of(keeps, n, b, p, arena);
  for (int64_t i = 0; i < count; ++i) {
    Call call{i * rows, rows, {}, {}, {}};
    for (const Port& port : ports) {
      if (port.output && port.name == "velocity")
        call.output = arena.make(port.dtype, shape_of(port, n, rows));
      if (port.tail()) add_cache(call, port, extent, text_of(ports, port) != nullptr, arena);
    }
    if (keeps.cache_slope) forecast_arrays.push_back(forecast_of(call, n, b, arena));
    calls.push_back(std::move(call));
  }
  for (const Port& port : ports) {
    if (port.output || !port.starts("A")) continue;
    const Tensor made = arena.make(port.dtype, shape_of(port, n, rows));
    if (port.name == "tokens") {
      tokens = made;
    } else {
      placed.push_back({port.name, made});
    }
  }
  if (apart) {
    difference = arena.make(DType::f32, {n, b, p});
    guided = arena.make(DType::f32, {n, b, p});
  }
  if (extent.branches > 1 && extent.renormalise != Renormalise::none) {
    const NormGroups of = NormGroups::of(extent.layout, extent.renormalise);
    norms = arena.make(DType::f32, {n, b, of.groups, 2});
    factors = arena.make(DType::f32, {b, of.lines, of.groups});
  }
  if (keeps.known) {
    known = arena.make(DType::boolean, {n, b});
    known_velocity = arena.make(DType::f32, {n, b, p});
  }
  age = arena.make(DType::i32, {n, b});
  drops = arena.make(DType::i32, {n, b});
  score = arena.make(DType::f32, {n, b});
  swaps = arena.make(DType::i32, {b, n, 2});
  counts = arena.make(DType::i32, {b});
  codes = arena.make(DType::u64, {b, n});
  grid = arena.make(DType::f32, {b, n});
}

std::vector<Bound> Buffers::head(int64_t active, size_t number, bool rests) const {
  const Call& call = calls[number];
  const int64_t cached = token.shape[0] - active;
  std::vector<Bound> out{{"tokens", slots_of(tokens, 0, active)},
                         {"velocity", slots_of(call.output, 0, active)}};
  for (const Bound& bound : placed) out.push_back({bound.name, slots_of(bound.tensor, 0, active)});
  auto cache = call.caches.begin();
  auto text = call.texts.begin();
  for (const Port& port : ports_) {
    if (!port.tail()) continue;
    // One without tokens is at the start, which is aligned; behind the last slot need not be.
    const int64_t behind = rests && *text >= 0 ? extent.text : 0;
    out.push_back({port.name, slots_of(*cache, cached > 0 ? active : 0, cached + behind)});
    if (*text >= 0)
      out.push_back({text_of(port.name).value(),
                     rests ? slots_of(*cache, 0, 0) : slots_of(*cache, *text, extent.text)});
    out.push_back({head_of(port.name).value(), slots_of(*cache, 0, active)});
    ++cache;
    ++text;
  }
  return out;
}

const char* Buffers::why_no_rest() const {
  bool any = false;
  for (const Call& call : calls)
    for (const int64_t begin : call.texts) {
      if (begin > token.shape[0])
        return "the caches of a picture of this size end at no multiple of 256 bytes";
      any = any || begin >= 0;
    }
  return any ? nullptr : "denoise gives no keys and values of the text";
}

SlotBuffers Buffers::moved(size_t made) const {
  std::vector<SlotBuffer> all;
  for (const Tensor& tensor : {latent, velocity, tokens, token, age, drops})
    all.push_back(moving(tensor));
  for (const Bound& bound : placed) {
    // What samples share is the same for all patches.
    if (find(ports_, bound.name)->by_row()) all.push_back(moving(bound.tensor));
  }
  if (history) {
    for (const auto& tensor : {std::optional(history->time), std::optional(history->rate),
                               history->slope, history->curve, history->span})
      if (tensor) all.push_back(moving(*tensor));
  }
  // What the calls of this step write of the head need not come back into it.
  const size_t kept = forecast_arrays.empty() ? std::min(std::max(made, kKept), calls.size()) : 0;
  for (size_t i = 0; i < kept; ++i)
    for (const Tensor& cache : calls[i].caches) all.push_back(moving(cache, i < made));
  for (const auto& tensor : {known, known_velocity})
    if (tensor) all.push_back(moving(*tensor));
  if (difference) all.push_back(moving(*difference, made > 1));
  if (norms) all.push_back(moving(*norms, true));
  return SlotBuffers(std::move(all), token.shape[0], extent.samples, token.device);
}

std::vector<CacheForecast> Buffers::forecasts(size_t number) const {
  std::vector<CacheForecast> out;
  for (const ForecastArrays& group : forecast_arrays[number]) {
    std::vector<ForecastCache> caches;
    const int64_t width = width_of(group.anchors.front());
    size_t at = 0;
    for (const Tensor& cache : calls[number].caches) {
      if (width_of(cache) != width) continue;
      caches.push_back({cache.data, group.anchors[at].data, group.slopes[at].as<uint16_t>()});
      ++at;
    }
    const Tensor& first = group.anchors.front();
    out.emplace_back(std::move(caches), group.anchored,
                     ForecastLayout{first.shape[0], first.shape[1], extent.samples, width,
                                    first.dtype, first.device});
  }
  return out;
}

std::map<std::string, KeptRows> Buffers::kept(size_t number) const {
  std::map<std::string, KeptRows> out;
  std::map<int64_t, size_t> taken;  // of each width
  auto cache = calls[number].caches.begin();
  for (const Port& port : ports_) {
    if (!port.tail()) continue;
    const int64_t width = width_of(*cache++);
    const size_t at = taken[width]++;
    for (const ForecastArrays& group : forecast_arrays[number]) {
      if (width_of(group.anchors.front()) != width) continue;
      out[port.name] = {{group.anchors[at].as<uint16_t>(), group.slopes[at].as<uint16_t>()},
                        token.shape[0],
                        width};
    }
  }
  return out;
}

}  // namespace flagdit
