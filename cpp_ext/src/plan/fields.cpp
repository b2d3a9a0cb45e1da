#include "flagdit/fields.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "flagdit/error.h"
#include "flagdit/names.h"
#include "flagdit/times.h"

namespace flagdit {
namespace {

[[noreturn]] void refuse(const std::string& name, const Value& got, const std::string& allowed) {
  throw Error(Fault::request, name + " is " + text_of(got) + "; allowed are " + allowed);
}

bool is_whole(const Number& number) {
  constexpr double kMost = 9007199254740992.0;  // 2^53: doubles count no further
  return number.whole && std::abs(number.value) <= kMost;
}

// How fields of a kind are read. `allowed` is for messages; of whole numbers `most`, or 0 where
// they are said otherwise.
struct Field {
  const char* name;
  int64_t most;
  const char* allowed;
};

void read(const Field& field, const Value& value, int64_t& out) {
  const Number* number = std::get_if<Number>(&value);
  if (number != nullptr && is_whole(*number)) {
    out = static_cast<int64_t>(number->value);
  } else if (field.most > 0) {
    refuse_whole(field.name, text_of(value), field.most);
  } else {
    refuse(field.name, value, field.allowed);
  }
}

void read(const Field& field, const Value& value, Number& out) {
  if (const bool* flag = std::get_if<bool>(&value)) {
    out = Number(*flag ? 1 : 0);
  } else if (const Number* number = std::get_if<Number>(&value)) {
    out = *number;
  } else {
    refuse(field.name, value, field.allowed != nullptr ? field.allowed : "numbers");
  }
}

void read(const Field& field, const Value& value, PerStep& out) {
  if (const auto* list = std::get_if<std::vector<Number>>(&value)) {
    out = *list;
    return;
  }
  Number one;
  read({field.name, 0, "a number, or numbers, one for each step"}, value, one);
  out = one;
}

void read(const Field& field, const Value& value, bool& out) {
  if (const bool* flag = std::get_if<bool>(&value)) {
    out = *flag;
  } else if (same(value, 0) || same(value, 1)) {
    out = same(value, 1);
  } else {
    refuse(field.name, value, "True and False");
  }
}

void read(const Field& field, const Value& value, std::vector<int64_t>& out) {
  if (const Other* other = std::get_if<Other>(&value)) {
    if (!other->item.empty()) refuse_whole("a reset", other->item, kMaxSteps);
  }
  const auto* list = std::get_if<std::vector<Number>>(&value);
  if (list == nullptr) refuse(field.name, value, "a list of steps");
  out.clear();
  for (const Number& reset : *list) {
    if (!is_whole(reset)) refuse_whole("a reset", text_of(reset), kMaxSteps);
    out.push_back(static_cast<int64_t>(reset.value));
  }
}

void read(const Field& field, const Value& value, Metric& out) {
  const auto* text = std::get_if<std::string>(&value);
  const std::optional<Metric> metric = text == nullptr ? std::nullopt : metric_of(*text);
  if (!metric) refuse(field.name, value, "std, l2, change");
  out = *metric;
}

void read(const Field&, const Value& value, Mode& out) {
  const auto* text = std::get_if<std::string>(&value);
  const std::optional<Mode> mode = text == nullptr ? std::nullopt : mode_of(*text);
  if (!mode) {
    throw Error(Fault::request, "mode: got " + text_of(value) + ", allowed 'corrected', 'paper'");
  }
  out = *mode;
}

template <typename T>
void read(const Field& field, const Value& value, std::optional<T>& out) {
  if (std::holds_alternative<std::monostate>(value)) {
    out.reset();
    return;
  }
  T got{};
  read(field, value, got);
  out = std::move(got);
}

Value written(int64_t value) { return Number(value); }
Value written(bool value) { return value; }
Value written(const Number& value) { return value; }
Value written(Metric value) { return std::string(name_of(value)); }
Value written(Mode value) { return std::string(name_of(value)); }
Value written(const std::vector<int64_t>& values) {
  return std::vector<Number>(values.begin(), values.end());
}
Value written(const PerStep& value) {
  return std::visit([](const auto& of) { return Value(of); }, value);
}
template <typename T>
Value written(const std::optional<T>& value) {
  return value ? written(*value) : Value(std::monostate{});
}

// Calls visit(field, reference) for every field, in the order of RasConfig.
template <typename R, typename Visit>
void each_field(R& r, const Visit& visit) {
  constexpr const char* kEvery = "1 to 1000, whole numbers";
  visit(Field{"ratio", 0, nullptr}, r.budget.ratio);
  visit(Field{"ratio_end", 0, nullptr}, r.budget.ratio_end);
  visit(Field{"warmup", kMaxSteps, nullptr}, r.budget.warmup);
  visit(Field{"resets", 0, nullptr}, r.budget.resets);
  visit(Field{"metric", 0, nullptr}, r.ranking.metric);
  visit(Field{"high_ratio", 0, nullptr}, r.ranking.high_ratio);
  visit(Field{"starvation", 0, nullptr}, r.ranking.starvation);
  visit(Field{"max_age", kMaxSteps, nullptr}, r.ranking.max_age);
  visit(Field{"bucket", kMaxTokens, nullptr}, r.budget.bucket);
  visit(Field{"mode", 0, nullptr}, r.mode);
  visit(Field{"skip_step", kMaxTokens, nullptr}, r.budget.skip_step);
  visit(Field{"skip_every", kMaxSteps, nullptr}, r.budget.skip_every);
  visit(Field{"end", kMaxSteps, nullptr}, r.budget.end);
  visit(Field{"forecast", 0, "0, 1 and 2"}, r.forecast.order);
  visit(Field{"forecast_clamp", 0, nullptr}, r.forecast.clamp);
  visit(Field{"forecast_norm", 0, nullptr}, r.forecast.keep_norm);
  visit(Field{"forecast_kv", 0, nullptr}, r.forecast.caches);
  visit(Field{"dilation", 0, nullptr}, r.ranking.dilation);
  visit(Field{"error_budget", 0, nullptr}, r.budget.error_budget);
  visit(Field{"gate", 0, nullptr}, r.budget.gate);
  visit(Field{"guidance_every", 0, kEvery}, r.guidance.every);
  visit(Field{"guidance_warmup", 0, kEvery}, r.guidance.warmup);
  visit(Field{"rest_text", 0, nullptr}, r.rest_text);
}

[[noreturn]] void refuse_name(const std::string& name) {
  throw Error(Fault::request, "ras has no " + quoted(name));
}

}  // namespace

std::vector<std::string> field_names() {
  std::vector<std::string> out;
  const Regions regions;
  each_field(regions, [&](const Field& field, const auto&) { out.emplace_back(field.name); });
  return out;
}

void set_field(Regions& regions, const std::string& name, const Value& value) {
  bool found = false;
  each_field(regions, [&](const Field& field, auto& of) {
    if (name != field.name) return;
    read(field, value, of);
    found = true;
  });
  if (!found) refuse_name(name);
}

Value field_of(const Regions& regions, const std::string& name) {
  std::optional<Value> found;
  each_field(regions, [&](const Field& field, const auto& of) {
    if (name == field.name) found = written(of);
  });
  if (!found) refuse_name(name);
  return *found;
}

}  // namespace flagdit
