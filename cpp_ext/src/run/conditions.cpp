#include "flagdit/conditions.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "cast.h"
#include "flagdit/checked.h"
#include "flagdit/error.h"
#include "outputs.h"

namespace flagdit {
namespace {

// What a port of `condition` makes of every different text, as one array with a row for each of R.
class Joined {
 public:
  // multiple: that lengths of texts are filled up to.
  Joined(const Port& port, const std::vector<const Tensor*>& parts, int64_t rows, float pad,
         int64_t multiple)
      : row_axis_(axis_of(port, "R")), text_axis_(axis_of(port, "T")) {
    if (!row_axis_)
      throw Error(Fault::bundle, "condition: " + port.name + " is " + to_string(port.axes) +
                                     ", without R; export the model again");
    Shape shape = parts.front()->shape;
    shape.sizes[*row_axis_] = rows;
    if (text_axis_)
      for (const Tensor* part : parts)
        shape.sizes[*text_axis_] = std::max(shape.sizes[*text_axis_], part->shape[*text_axis_]);
    if (text_axis_) {
      int64_t& length = shape.sizes[*text_axis_];
      length = (length + multiple - 1) / multiple * multiple;
    }
    out = made(port.name, DType::f32, shape);
    const int64_t count = bytes_of(DType::f32, shape) / 4;
    if (pad != 0.0f) std::fill_n(out.tensor.as<float>(), count, pad);
  }

  void put(int64_t row, const Tensor& part) const { copy(part, row, 0, 0, 0); }

  Bound out;

 private:
  static std::optional<int> axis_of(const Port& port, const char* letter) {
    const auto at = std::find(port.axes.begin(), port.axes.end(), Axis(std::string(letter)));
    if (at == port.axes.end()) return std::nullopt;
    return static_cast<int>(at - port.axes.begin());
  }

  // Axis by axis; from the last one on that both have alike, all at once.
  void copy(const Tensor& part, int64_t row, int axis, int64_t from, int64_t to) const {
    const Tensor& whole = out.tensor;
    if (axis == whole.shape.rank) {
      whole.as<float>()[to] = part.as<float>()[from];
      return;
    }
    if (axis > std::max(*row_axis_, text_axis_.value_or(0))) {
      const int64_t count = product("condition", part.shape.sizes.data() + axis,
                                    static_cast<size_t>(part.shape.rank - axis));
      std::copy_n(part.as<float>() + from * count, count, whole.as<float>() + to * count);
      return;
    }
    const int64_t first = axis == *row_axis_ ? row : 0;
    for (int64_t i = 0; i < part.shape[axis]; ++i)
      copy(part, row, axis + 1, from * part.shape[axis] + i, to * whole.shape[axis] + first + i);
  }

  std::optional<int> row_axis_, text_axis_;
};

// Of each layer 1, or 0 of those that are skipped.
Bound layers_but(const Port& port, const std::vector<int64_t>& skipped) {
  const int64_t* count = port.axes.size() == 1 ? std::get_if<int64_t>(&port.axes[0]) : nullptr;
  if (port.dtype != DType::f32 || count == nullptr)
    throw Error(Fault::bundle, "condition: " + port.name + " is " + to_string(port.axes) +
                                   "; allowed is float32 of one size; export the model again");
  Bound out = made(port.name, DType::f32, {*count});
  std::fill_n(out.tensor.as<float>(), *count, 1.0f);
  for (const int64_t layer : skipped) {
    check_range("condition: layer", layer, 0, *count - 1);
    out.tensor.as<float>()[layer] = 0.0f;
  }
  return out;
}

// A mask only where the graph has an input for it: a text is never filled up here.
std::vector<Bound> run_condition(Session& condition, const std::vector<float>& times,
                                 const std::vector<Bound>& features,
                                 const std::vector<int64_t>& skipped = {}) {
  const Bound t = made("t", DType::f32, {static_cast<int64_t>(times.size())});
  std::copy(times.begin(), times.end(), t.tensor.as<float>());
  std::vector<Bound> inputs{t};
  inputs.insert(inputs.end(), features.begin(), features.end());
  for (const Port& port : condition.ports()) {
    if (!port.output && port.name == "layers") inputs.push_back(layers_but(port, skipped));
    if (port.output || port.name != "text_mask") continue;
    const int64_t length = features.front().tensor.shape[1];
    inputs.push_back(made(port.name, DType::boolean, {1, length}));
    std::memset(inputs.back().tensor.data, 1, static_cast<size_t>(length));
  }
  return condition.run(inputs);
}

const Bound& output_of(const std::vector<Bound>& all, const std::string& name) {
  const Bound* at = find(all, name);
  if (at == nullptr) throw Error(Fault::bundle, "condition does not give " + name);
  return *at;
}

// The length that `condition` made of a text: that of the first output that has one. It may fill a
// text up, so its length is not that of the features.
int64_t made_length(const Session& condition, const std::vector<Bound>& given) {
  for (const Port& port : condition.ports()) {
    const auto at = std::find(port.axes.begin(), port.axes.end(), Axis(std::string("T")));
    if (!port.output || at == port.axes.end()) continue;
    const Shape& shape = output_of(given, port.name).tensor.shape;
    const auto axis = static_cast<int>(at - port.axes.begin());
    if (axis < shape.rank) return shape[axis];
  }
  return 0;
}

// What it makes of each different text, and for which rows: those of the texts, then those that skip
// layers.
struct Made {
  std::vector<std::vector<Bound>> all;
  std::vector<size_t> rows;
};

Made made_of(Session& condition, const std::vector<float>& times, const Texts& texts,
             const Features& features, const SkippingRows& skipping) {
  Made out;
  for (const std::vector<Bound>& text : features.texts)
    out.all.push_back(run_condition(condition, times, text));
  out.rows = texts.rows;
  std::map<size_t, size_t> skipped;  // by text
  for (size_t row = 0; row < skipping.count; ++row) {
    const auto [at, fresh] = skipped.emplace(texts.rows[row], out.all.size());
    if (fresh)
      out.all.push_back(
          run_condition(condition, times, features.texts[at->first], skipping.layers));
    out.rows.push_back(at->second);
  }
  return out;
}

// A port's output of one text: of one row, with an entry for each of the times.
void check_part(const Session& condition, const Port& port, const Bound& output, int64_t times,
                int64_t length) {
  const Tensor& made = output.tensor;
  bool fits = made.dtype == DType::f32 && made.shape.rank == static_cast<int>(port.axes.size());
  for (int axis = 0; fits && axis < made.shape.rank; ++axis) {
    const Axis& said = port.axes[static_cast<size_t>(axis)];
    const auto* size = std::get_if<int64_t>(&said);
    int64_t wanted = size != nullptr ? *size : made.shape[axis];
    if (said == Axis(std::string("R"))) wanted = 1;
    if (said == Axis(std::string("S"))) wanted = times;
    if (said == Axis(std::string("T"))) wanted = length;
    fits = made.shape[axis] == wanted;
  }
  if (!fits)
    refuse_output(condition.name, output,
                  "float32 " + to_string(port.axes) + " with R 1, S " + std::to_string(times) +
                      " and T " + std::to_string(length));
}

}  // namespace

std::vector<Bound> conditions(Session& condition, const Session& denoise,
                              const std::vector<float>& times, const Texts& texts,
                              const Features& features, const std::map<std::string, float>& pads,
                              const SkippingRows& skipping) {
  const Made given = made_of(condition, times, texts, features, skipping);
  // A model that has nothing to leave tokens out by takes texts as they are.
  const int64_t multiple = pads.empty() ? 1 : denoise.lengths;
  std::vector<Bound> out;
  for (const Port& port : condition.ports()) {
    if (!port.output) continue;
    std::vector<const Tensor*> parts;
    for (const size_t text : given.rows) {
      const Bound& part = output_of(given.all[text], port.name);
      check_part(condition, port, part, static_cast<int64_t>(times.size()),
                 made_length(condition, given.all[text]));
      parts.push_back(&part.tensor);
    }
    const auto pad = pads.find(port.name);
    const Joined joined(port, parts, static_cast<int64_t>(parts.size()),
                        pad == pads.end() ? 0.0f : pad->second, multiple);
    for (size_t row = 0; row < parts.size(); ++row)
      joined.put(static_cast<int64_t>(row), *parts[row]);
    check_numbers(joined.out.tensor, port.name, kBefore, "condition on " + condition.backend,
                  "float32");
    out.push_back(cast(joined.out, denoise.port(port.name).dtype));
  }
  return out;
}

std::vector<Bound> placed(Session& place, const Layout& layout, const Placing& options) {
  std::vector<Bound> inputs;
  for (const Port& port : place.ports()) {
    if (port.output) continue;
    if (port.name == "place") {
      inputs.push_back(made(port.name, DType::i64, {layout.tokens(), 4}));
      const std::vector<int64_t> places = layout.places();
      std::copy(places.begin(), places.end(), inputs.back().tensor.as<int64_t>());
    } else if (port.name == "extent") {
      inputs.push_back(made(port.name, DType::i64, {3}));
      auto* extent = inputs.back().tensor.as<int64_t>();
      extent[0] = layout.depth(), extent[1] = layout.lines(), extent[2] = layout.columns();
    } else if (port.name == "ntk") {
      inputs.push_back(made(port.name, DType::f32, {1}));
      *inputs.back().tensor.as<float>() = static_cast<float>(options.ntk);
    } else if (port.name == "proportional") {
      inputs.push_back(made(port.name, DType::boolean, {1}));
      *inputs.back().tensor.as<uint8_t>() = options.proportional ? 1 : 0;
    } else if (port.name == "phase") {
      inputs.push_back(made(port.name, DType::i64, {1}));
      *inputs.back().tensor.as<int64_t>() = options.phase;
    } else {
      throw Error(Fault::bundle, "place takes '" + port.name +
                                     "', which nothing gives; allowed are "
                                     "place, extent, ntk, proportional, phase");
    }
  }
  std::vector<Bound> out = place.run(inputs);
  for (const Bound& output : out)
    check_numbers(output.tensor, output.name, kBefore, "place on " + place.backend, "float32");
  return out;
}

}  // namespace flagdit
