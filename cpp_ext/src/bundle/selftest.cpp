#include "flagdit/selftest.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <utility>

#include "../json.h"
#include "../run/cast.h"
#include "../run/outputs.h"
#include "flagdit/bf16.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

constexpr int64_t kMostAxes = 8;

[[noreturn]] void damaged(const std::string& what) {
  throw Error(Fault::bundle, std::string(kSelfTest) + ": no vectors of a self-test (" + what +
                                 "); build the bundle again");
}

DType dtype_of(const std::string& name) {
  if (name == "F32") return DType::f32;
  if (name == "F16") return DType::f16;
  if (name == "I64") return DType::i64;
  if (name == "BOOL") return DType::boolean;
  damaged("dtype " + name);
}

float from_f16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, part = bits & 0x3ff;
  float value = std::numeric_limits<float>::quiet_NaN();
  if (exponent < 31)
    value = exponent == 0 ? std::ldexp(static_cast<float>(part), -24)
                          : std::ldexp(static_cast<float>(part + 1024), exponent - 25);
  else if (part == 0)
    value = std::numeric_limits<float>::infinity();
  return (bits & 0x8000u) != 0 ? -value : value;
}

float number_at(const char* bytes, DType dtype, int64_t i) {
  if (dtype == DType::f32) {
    float value;
    std::memcpy(&value, bytes + 4 * i, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, bytes + 2 * i, sizeof bits);
  return dtype == DType::f16 ? from_f16(bits) : from_bf16(bits);
}

// What is kept of an axis: where it begins and how long it is, in a case.
struct Cut {
  int64_t begin, count;
};

// As an input of that type: numbers are rounded to it.
Bound converted(Bound values, DType dtype) {
  const Tensor& from = values.tensor;
  if (from.dtype == dtype) return values;
  if (from.dtype != DType::f32 && from.dtype != DType::f16)
    damaged(values.name + " is " + to_string(from.dtype));
  const Bound wide = made(values.name, DType::f32, from.shape);
  const int64_t count = bytes_of(from.dtype, from.shape) / size_of(from.dtype);
  for (int64_t i = 0; i < count; ++i)
    wide.tensor.as<float>()[i] = number_at(from.as<char>(), from.dtype, i);
  return cast(wide, dtype);
}

// Rows of values one after the other, the last axis at once.
void copy(const char* from, const std::vector<int64_t>& shape, const std::vector<Cut>& cuts,
          size_t axis, int64_t bytes, char*& to) {
  int64_t step = bytes;
  for (size_t i = axis + 1; i < shape.size(); ++i) step *= shape[i];
  from += cuts[axis].begin * step;
  if (axis + 1 == shape.size()) {
    std::memcpy(to, from, static_cast<size_t>(cuts[axis].count * bytes));
    to += cuts[axis].count * bytes;
    return;
  }
  for (int64_t i = 0; i < cuts[axis].count; ++i)
    copy(from + i * step, shape, cuts, axis + 1, bytes, to);
}

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", value);
  return text;
}

// Root mean square of the difference over that of what is expected (F32).
double distance(const Tensor& made, const char* expected, int64_t count) {
  double difference = 0.0, size = 0.0;
  for (int64_t i = 0; i < count; ++i) {
    const double wanted = number_at(expected, DType::f32, i);
    const double off = number_at(made.as<char>(), made.dtype, i) - wanted;
    difference += off * off;
    size += wanted * wanted;
  }
  const auto n = static_cast<double>(std::max<int64_t>(count, 1));
  return std::sqrt(difference / n) / std::max(std::sqrt(size / n), 1e-12);
}

// Of `distance`, by the precision of an engine: what is still taken for rounding.
double allowed_of(const std::string& precision) {
  // In float32 products may be TF32 on a GPU.
  static const std::map<std::string, double> all{{"float32", 2e-3},  {"float16", 1e-2},
                                                 {"bfloat16", 3e-2}, {"int8", 0.1},
                                                 {"int8-bf16", 0.1}, {"fp8", 0.15}};
  const auto found = all.find(precision);
  return found == all.end() ? 2e-3 : found->second;
}

}  // namespace

std::string SelfTestCase::name() const {
  return "A" + std::to_string(active) + ".M" + std::to_string(cached) + ".R" +
         std::to_string(rows) + (rests ? ".T0" : "");
}

SelfTest::SelfTest(std::string_view content) {
  uint64_t length = 0;
  if (content.size() < 8) damaged("it is too short");
  std::memcpy(&length, content.data(), sizeof length);
  if (length > content.size() - 8) damaged("its header is too long");
  const Json header = parse_json(kSelfTest, content.substr(8, length));
  const std::string_view data = content.substr(8 + length);
  try {
    for (const auto& [name, said] : header.items()) {
      Values values{dtype_of(said.at("dtype").get<std::string>()),
                    said.at("shape").get<std::vector<int64_t>>(),
                    {}};
      const auto begin = said.at("data_offsets").at(0).get<uint64_t>();
      const auto end = said.at("data_offsets").at(1).get<uint64_t>();
      if (begin > end || end > data.size()) damaged(name + " lies outside of it");
      values.bytes = data.substr(begin, end - begin);
      add(name, std::move(values));
    }
  } catch (const Json::exception& error) {
    damaged(reason(error));
  }
  for (const SelfTestCase& one : kSelfTestCases)
    if (!one.rests && cases_.count(one.name() + ".") == 0) damaged("a case is missing");
}

void SelfTest::add(const std::string& name, Values values) {
  const int64_t left = static_cast<int64_t>(values.bytes.size()) / size_of(values.dtype);
  int64_t count = values.shape.size() > kMostAxes ? -1 : 1;
  for (const int64_t size : values.shape)
    count = size < 0 || count < 0 || (size > 0 && count > left / size) ? -1 : count * size;
  if (count != left || static_cast<int64_t>(values.bytes.size()) % size_of(values.dtype) != 0)
    damaged(name + " has another number of values than its shape");
  if (name.rfind("input.", 0) == 0) {
    inputs_[name.substr(6)] = std::move(values);
    return;
  }
  for (const SelfTestCase& one : kSelfTestCases) {
    const std::string place = one.name() + ".";
    if (name.rfind(place, 0) != 0 || values.dtype != DType::f32) continue;
    Case& of = cases_[place];
    of.size = one;
    of.outputs[name.substr(place.size())] = std::move(values);
    return;
  }
  damaged(name);
}

void SelfTest::check(Session& session) const {
  const std::vector<Port>& ports = session.ports();
  const bool may_rest = std::any_of(
      ports.begin(), ports.end(), [](const Port& port) { return port.output && port.starts("T"); });
  const auto is_rest = [](const auto& one) { return one.second.size.rests; };
  if (may_rest && std::none_of(cases_.begin(), cases_.end(), is_rest)) damaged("a case is missing");
  for (const auto& [name, of] : cases_) {
    if (of.size.rests && !may_rest) continue;
    std::vector<Bound> inputs;
    for (const Port& port : ports) {
      const bool fewer = of.size.rests && port.tail() && text_of(ports, port) == nullptr;
      if (!port.output) inputs.push_back(given(port, of, fewer ? kRested : 0));
    }
    compare(session, of, session.run(inputs));
  }
}

// The part of an input that is of a case: A of the first tokens, M of those behind them, R of the
// first rows, and of a text that rests no token but the biases of those that are cached.
Bound SelfTest::given(const Port& port, const Case& of, int64_t fewer) const {
  const auto found = inputs_.find(port.name);
  if (found == inputs_.end())
    throw Error(Fault::bundle, std::string(kSelfTest) + " has no values for " + port.name +
                                   "; build the bundle again");
  const Values& values = found->second;
  if (values.shape.size() != port.axes.size()) damaged(port.name + " has another number of axes");
  std::vector<Cut> cuts;
  std::vector<int64_t> sizes;
  for (size_t axis = 0; axis < values.shape.size(); ++axis) {
    const auto* letter = std::get_if<std::string>(&port.axes[axis]);
    Cut cut{0, values.shape[axis]};
    if (letter != nullptr && *letter == "A") cut = {0, of.size.active};
    if (letter != nullptr && *letter == "M") cut = {of.size.active, of.size.cached - fewer};
    if (letter != nullptr && *letter == "R") cut = {0, of.size.rows};
    if (letter != nullptr && *letter == "T" && of.size.rests) cut = {0, port.text() ? 0 : kRested};
    if (cut.count < 0 || cut.begin < 0 || cut.begin + cut.count > values.shape[axis])
      damaged(port.name + " is too small");
    cuts.push_back(cut);
    sizes.push_back(cut.count);
  }
  const Shape shape(sizes.data(), static_cast<int>(sizes.size()));
  Bound part = made(port.name, values.dtype, shape);
  auto* to = part.tensor.as<char>();
  if (sizes.empty()) std::memcpy(to, values.bytes.data(), values.bytes.size());
  if (!sizes.empty() && std::find(sizes.begin(), sizes.end(), 0) == sizes.end())
    copy(values.bytes.data(), values.shape, cuts, 0, size_of(values.dtype), to);
  return converted(std::move(part), port.dtype);
}

void SelfTest::compare(const Session& session, const Case& of,
                       const std::vector<Bound>& made) const {
  const double allowed = allowed_of(session.precision);
  for (const auto& [name, expected] : of.outputs) {
    const Bound* got = find(made, name);
    Shape wanted(expected.shape.data(), static_cast<int>(expected.shape.size()));
    bool fits = got != nullptr && got->tensor.shape.rank == wanted.rank &&
                (got->tensor.dtype == DType::f32 || got->tensor.dtype == DType::f16 ||
                 got->tensor.dtype == DType::bf16);
    for (int axis = 0; fits && axis < wanted.rank; ++axis)
      fits =
          axis == 0 ? got->tensor.shape[0] >= wanted[0] : got->tensor.shape[axis] == wanted[axis];
    if (!fits)
      throw Error(Fault::backend,
                  session.name + ": " + name + " of the self-test is missing or of another shape");
    const double off = distance(got->tensor, expected.bytes.data(),
                                static_cast<int64_t>(expected.bytes.size()) / 4);
    if (off <= allowed) continue;  // no number is not, either
    throw Error(Fault::backend,
                session.name + " (" + session.precision + ") computes wrong numbers: " + name +
                    " is " + short_number(off) + " off with " + std::to_string(of.size.active) +
                    " active and " + std::to_string(of.size.cached) + " cached tokens" +
                    (of.size.rests ? " and no text in " : " in ") + std::to_string(of.size.rows) +
                    " rows, allowed is " + short_number(allowed) +
                    "; build it again with another version or precision, or use --device cpu");
  }
}

}  // namespace flagdit
