#include "check_run.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "flagdit/checked.h"
#include "flagdit/error.h"

namespace flagdit {

void check_plan(const Plan& plan, const Layout& layout);  // check_plan.cpp

namespace {

using Axes = std::vector<Axis>;

std::string described(DType dtype, const Axes& axes) {
  return to_string(dtype) + " " + to_string(axes);
}

[[noreturn]] void refuse_port(const Port& port, const std::string& allowed) {
  throw Error(Fault::bundle, "denoise: " + port.name + " is " + described(port.dtype, port.axes) +
                                 "; allowed is " + allowed);
}

const Port* find(const std::vector<Port>& ports, const std::string& name, bool output) {
  for (const Port& port : ports)
    if (port.name == name && port.output == output) return &port;
  return nullptr;
}

// Half precision is what kernels of a GPU read, and no others.
bool takes(DType dtype, Device device) {
  return dtype == DType::f32 ||
         (device == Device::cuda && (dtype == DType::f16 || dtype == DType::bf16));
}

void check_patches(const std::vector<Port>& ports, const char* name, bool output, int64_t values,
                   Device device) {
  const Port* port = find(ports, name, output);
  const Axes axes{std::string("A"), std::string("R"), values};
  if (port == nullptr)
    throw Error(Fault::bundle, "'" + std::string(name) + "' is missing among the " +
                                   (output ? "outputs" : "inputs") + " of denoise");
  if (!takes(port->dtype, device) || port->axes != axes)
    refuse_port(*port, described(DType::f32, axes));
}

// A cache, whose head is as its tail. What its other axes are is checked where it takes memory.
void check_cache(const std::vector<Port>& ports, const Port& tail) {
  if (!tail.by_row()) refuse_port(tail, "(M, R, ...)");
  const std::optional<std::string> name = head_of(tail.name);
  if (!name) refuse_port(tail, "a name with _tail");
  Axes axes = tail.axes;
  axes.front() = std::string("A");
  const Port* head = find(ports, *name, true);
  if (head == nullptr)
    throw Error(Fault::bundle, "'" + *name + "' is missing among the outputs of denoise");
  if (head->dtype != tail.dtype || head->axes != axes)
    refuse_port(*head, described(tail.dtype, axes));
}

// What the text adds to a cache, if it is given.
void check_text(const std::vector<Port>& ports, const Port& tail) {
  const Port* text = text_of(ports, tail);
  Axes axes = tail.axes;
  axes.front() = std::string("T");
  if (text != nullptr && (text->dtype != tail.dtype || text->axes != axes))
    refuse_port(*text, described(tail.dtype, axes));
}

void check_ports(const std::vector<Port>& ports, int64_t values, Device device) {
  std::set<std::string> names;
  for (const Port& port : ports) {
    if (!names.insert(port.name).second)
      throw Error(Fault::bundle, "denoise: '" + port.name + "' is there twice");
    if (size_of(port.dtype) == 0) refuse_port(port, "a type that arrays have");
    if (port.axes.size() > Shape::kMaxRank) refuse_port(port, "at most 8 axes");
    if (!port.tail()) continue;
    check_cache(ports, port);
    check_text(ports, port);
  }
  check_patches(ports, "tokens", false, values, device);
  check_patches(ports, "velocity", true, values, device);
  const Port &read = *find(ports, "tokens", false), &written = *find(ports, "velocity", true);
  if (read.dtype != written.dtype) refuse_port(written, "the type of tokens");
}

// What conditions must be, and which of them there are.
class Given {
 public:
  Given(const std::vector<Port>& ports, int64_t rows) : ports_(ports), sizes_{{"R", rows}} {}

  // axes: that the array has by its port.
  void check(const Bound& bound, const Port& port, const Axes& axes) {
    if (!names_.insert(bound.name).second)
      throw Error(Fault::bundle, "'" + bound.name + "' is given twice to denoise");
    const Shape& shape = bound.tensor.shape;
    bool fits = bound.tensor.dtype == port.dtype && bound.tensor.device == Device::cpu &&
                shape.rank == static_cast<int>(axes.size());
    for (size_t i = 0; fits && i < axes.size(); ++i)
      fits = shape[static_cast<int>(i)] == size(axes[i], shape[static_cast<int>(i)]);
    if (!fits)
      throw Error(Fault::bundle, bound.name + " is " + to_string(bound.tensor.dtype) + " " +
                                     to_string(shape) + ", and denoise takes " +
                                     described(port.dtype, known(axes)));
  }

  const Port& port(const Bound& bound) const {
    const Port* port = find(ports_, bound.name, false);
    if (port == nullptr || port->name == "tokens" || port->starts("M"))
      throw Error(Fault::bundle, "'" + bound.name + "' is no condition that denoise takes");
    return *port;
  }

  void check_all() const {
    for (const Port& port : ports_)
      if (!port.output && port.name != "tokens" && !port.starts("M") &&
          names_.count(port.name) == 0)
        throw Error(Fault::bundle, "nothing gives " + port.name + ", which denoise takes");
  }

 private:
  // A letter is the same size everywhere, which the first array has.
  int64_t size(const Axis& axis, int64_t got) {
    const auto* letter = std::get_if<std::string>(&axis);
    if (letter == nullptr) return std::get<int64_t>(axis);
    return sizes_.emplace(*letter, got).first->second;
  }

  Axes known(Axes axes) const {
    for (Axis& axis : axes)
      if (const auto* letter = std::get_if<std::string>(&axis))
        if (const auto at = sizes_.find(*letter); at != sizes_.end()) axis = at->second;
    return axes;
  }

  const std::vector<Port>& ports_;
  std::map<std::string, int64_t> sizes_;
  std::set<std::string> names_;
};

void check_conditions(const std::vector<Port>& ports, const Extent& extent, int64_t evaluations,
                      const Conditions& conditions) {
  Given given(ports, extent.rows());
  for (const Bound& bound : conditions.constant) {
    const Port& port = given.port(bound);
    if (port.starts("A")) refuse_port(port, "(R, ...) or sizes over the run");
    given.check(bound, port, port.axes);
  }
  for (const Bound& bound : conditions.timed) {
    const Port& port = given.port(bound);
    if (!port.starts("R")) refuse_port(port, "(R, ...) of an evaluation");
    if (bound.tensor.shape.rank > 0)
      check_range("Sampler: " + bound.name + ": entries", bound.tensor.shape[0], evaluations,
                  INT64_MAX);
    Axes axes = port.axes;
    axes.insert(axes.begin(), bound.tensor.shape.rank > 0 ? bound.tensor.shape[0] : evaluations);
    given.check(bound, port, axes);
  }
  for (const Bound& bound : conditions.placed) {
    const Port& port = given.port(bound);
    if (!port.starts("A")) refuse_port(port, "(A, ...) by token");
    Axes axes = port.axes;
    axes.front() = extent.layout.tokens();
    if (port.by_row()) axes.erase(axes.begin() + 1);
    for (const Axis& axis : axes)
      if (std::holds_alternative<std::string>(axis)) refuse_port(port, "(A, R, ...) and sizes");
    given.check(bound, port, axes);
  }
  given.check_all();
}

// What a later phase gives takes the place of as much: all that is by token, and constants.
void check_later(const Plan& plan, const Conditions& conditions) {
  const auto check = [](const std::vector<Bound>& anew, const Bound& bound, bool needed) {
    const Bound* with = flagdit::find(anew, bound.name);
    if (with == nullptr && !needed) return;
    if (with == nullptr || with->tensor.dtype != bound.tensor.dtype ||
        !(with->tensor.shape == bound.tensor.shape) || with->tensor.device != Device::cpu)
      throw Error(Fault::bundle, bound.name + " is not given to a later phase as to the first");
  };
  for (const Step& step : plan.steps) {
    if (!plan.places_anew(step.index)) continue;
    const auto at = conditions.later.find(plan.phase[static_cast<size_t>(step.index)]);
    if (at == conditions.later.end())
      throw Error(Fault::bundle, "nothing places tokens for step " + std::to_string(step.index));
    for (const Bound& bound : conditions.placed) check(at->second, bound, true);
    for (const Bound& bound : conditions.constant) check(at->second, bound, false);
  }
}

}  // namespace

void check_sampler(const Session& denoise, const Extent& extent, const Plan& plan,
                   const Conditions& conditions, const std::vector<float>& guidance) {
  const int64_t values = extent.layout.patch_values();
  check_range("Sampler: samples", extent.samples, 1, INT32_MAX);
  check_range("Sampler: slots", extent.layout.tokens(), 1, (int64_t{1} << 28) - 1);
  check_plan(plan, extent.layout);
  const bool skips = plan.skips_layers();
  check_range("Sampler: branches", extent.branches, skips ? 3 : 1, skips ? 3 : 2);
  const int64_t scales = skips ? 2 * values : values;
  check_range("Sampler: values of guidance", static_cast<int64_t>(guidance.size()), scales, scales);
  check_ports(denoise.ports(), values, denoise.device());
  check_conditions(denoise.ports(), extent, static_cast<int64_t>(plan.evaluations.size()),
                   conditions);
  check_later(plan, conditions);
}

}  // namespace flagdit
