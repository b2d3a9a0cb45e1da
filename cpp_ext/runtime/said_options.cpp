// How to sample, as a user says it.
#include <algorithm>
#include <functional>
#include <map>

#include "flagdit/names.h"
#include "said_table.h"

namespace flagdit::said {
namespace {

std::optional<Steps> read_steps(Said& said) {
  const auto count = said.number("steps");
  const Json* times = said.take("times");
  if (times == nullptr) return count ? std::optional<Steps>(whole("steps", *count)) : std::nullopt;
  if (count)
    refuse("--steps " + text_of(*count) + " and --times contradict each other; give one of them");
  std::vector<double> list;
  if (times->is_array()) {
    for (const Json& time : *times) list.push_back(Said::of("times", time));
    return list;
  }
  const std::string text = times->is_string() ? times->get<std::string>() : times->dump();
  for (const std::string& part : split(text, ',')) {
    const Value value = read_value(part);
    const auto* number = std::get_if<Number>(&value);
    if (number == nullptr) {
      refuse("times " + in_quotes(text) +
             " are not numbers with commas; for instance 0,0.05,0.15,0.4,1");
    }
    list.push_back(*number);
  }
  return list;
}

std::optional<SaidRatio> read_ratio(Said& said) {
  const Json* value = said.take("ratio");
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) return SaidRatio{Number(value->get<double>())};
  if (value->is_array() && value->size() == 2) {
    return SaidRatio{Said::of("ratio", (*value)[0]).value,
                     Number(Said::of("ratio", (*value)[1]).value)};
  }
  const std::string text = value->is_string() ? value->get<std::string>() : value->dump();
  const std::vector<std::string> parts = split(text, ':');
  std::vector<Number> numbers;
  for (const std::string& part : parts) {
    const Value read =
        part.find_first_not_of("0123456789. ") == std::string::npos ? read_value(part) : Value();
    if (const auto* number = std::get_if<Number>(&read)) numbers.push_back(Number(number->value));
  }
  if (numbers.size() != parts.size() || numbers.size() > 2) {
    refuse("ratio " + in_quotes(text) +
           " is neither a number nor FROM:TO; for instance 0.25, or 0.5:0.125");
  }
  SaidRatio ratio{numbers[0]};
  if (numbers.size() == 2) ratio.last = numbers[1];
  return ratio;
}

std::optional<Schedule> read_schedule(Said& said) {
  const std::string text = said.text("schedule");
  if (text.empty()) return std::nullopt;
  const std::vector<std::string> parts = split(text, '/');
  std::vector<int64_t> numbers;
  for (const std::string& part : parts) {
    const Value value = part.size() <= 7 ? read_value(part) : Value();
    const auto* number = std::get_if<Number>(&value);
    if (number != nullptr && number->whole && number->value != 0)
      numbers.push_back(static_cast<int64_t>(number->value));
  }
  if (parts.size() != 2 || numbers.size() != 2 || numbers[1] < 0 || numbers[1] > 9999) {
    refuse("schedule " + in_quotes(text) +
           " is not PATCHES/STEPS, neither of them 0; for instance 256/4");
  }
  return Schedule{numbers[0], numbers[1]};
}

// A list of whole numbers is one even if it has one number.
Value as_field(const std::string& name, Value value) {
  const auto* number = std::get_if<Number>(&value);
  return name == "resets" && number != nullptr ? Value(std::vector<Number>{*number}) : value;
}

Value value_in(const std::string& name, const Json& value) {
  if (value.is_null()) return {};
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return as_field(name, read_value(value.get<std::string>()));
  if (!value.is_array()) return Said::of(name, value);
  std::vector<Number> numbers;
  for (const Json& item : value) numbers.push_back(Said::of(name, item));
  return numbers;
}

void add(Changes& changes, const std::string& name, const Value& value) {
  const std::vector<std::string> names = field_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    std::string list;
    for (const std::string& known : names) list += (list.empty() ? "" : ", ") + known;
    refuse("ras has no " + in_quotes(name) + "; allowed are " + list);
  }
  if (find(changes, name) != nullptr) refuse("ras says " + name + " twice; say it once");
  changes.emplace_back(name, value);
}

// Fields of regions, and whether the others are their own defaults.
bool read_ras(Said& said, Changes& changes) {
  const Json* value = said.take("ras");
  bool defaults = false;
  if (value == nullptr) return false;
  if (value->is_object()) {
    for (const auto& [name, item] : value->items()) add(changes, name, value_in(name, item));
    return false;
  }
  if (!value->is_array()) refuse_kind("ras", *value, "a table, or a list of KEY=VALUE");
  for (const Json& item : *value) {
    const std::string text = item.is_string() ? item.get<std::string>() : item.dump();
    const size_t equals = text.find('=');
    if (text == "defaults") {
      defaults = true;
    } else if (equals == std::string::npos) {
      refuse("ras " + in_quotes(text) + " is not KEY=VALUE; for instance --ras warmup=3");
    } else {
      std::string name = text.substr(0, equals);
      std::replace(name.begin(), name.end(), '-', '_');
      add(changes, name, as_field(name, read_value(text.substr(equals + 1))));
    }
  }
  return defaults;
}

// What options of their own say of regions.
Changes read_changes(Said& said) {
  Changes changes;
  const auto budget = said.number("error_budget");
  if (budget && *budget != 0) changes.emplace_back("error_budget", Number(budget->value));
  const auto every = said.number("guidance_every"), warmup = said.number("guidance_warmup");
  if ((every && *every != 1) || warmup) {
    changes.emplace_back("guidance_every", every.value_or(Number(int64_t{1})));
    changes.emplace_back("guidance_warmup", warmup ? Value(*warmup) : Value());
  }
  if (const auto share = said.number("forecast_kv"))
    changes.emplace_back("forecast_kv", Number(share->value));
  return changes;
}

void read_regions(Said& said, Options& options) {
  Changes changes = read_changes(said), named;
  const bool defaults = read_ras(said, named);
  for (const auto& [name, value] : named) {
    if (find(changes, name) == nullptr) continue;
    std::string option = name;
    std::replace(option.begin(), option.end(), '_', '-');
    refuse(name + " is said twice, by --" + option + " and --ras " + name + "=; give one of them");
  }
  if (defaults) {
    Regions regions;
    for (const auto& [name, value] : named) set_field(regions, name, value);
    options.regions = regions;
  } else {
    changes.insert(changes.end(), named.begin(), named.end());
  }
  options.changes = std::move(changes);
}

}  // namespace

Options read_options(Said& said) {
  Options options;
  if (said.take("preset") != nullptr) options.preset = said.text("preset");
  options.steps = read_steps(said);
  if (const auto shift = said.number("shift")) options.shift = Number(shift->value);
  if (said.take("solver") != nullptr) {
    const std::string name = said.text("solver");
    options.solver = solver_of(name);
    if (!options.solver)
      refuse("solver is " + in_quotes(name) + "; allowed are euler, ab2, midpoint, heun");
  }
  options.dense = said.flag("dense");
  if (said.take("mode") != nullptr) {
    const std::string name = said.text("mode");
    const auto mode = mode_of(name);
    if (!mode) refuse("mode is " + in_quotes(name) + "; allowed are corrected, paper");
    options.mode = *mode;
  }
  options.ratio = read_ratio(said);
  options.schedule = read_schedule(said);
  read_regions(said, options);
  if (said.take("coarse") != nullptr) options.coarse = read_coarse(said.text("coarse"));
  return options;
}

}  // namespace flagdit::said
