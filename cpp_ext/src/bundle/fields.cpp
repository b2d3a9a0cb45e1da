#include "fields.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "../printable.h"

namespace flagdit::bundle {
namespace {

constexpr size_t kLongest = 2000;  // characters of a text

std::string shown(double value) { return Json(value).dump(); }
std::string inside(const std::string& where, const std::string& name) {
  return where.empty() ? name : where + "." + name;
}

// Of UTF-8 that was checked when the document was read.
size_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace

int64_t Value::whole(int64_t least, int64_t most) const {
  int64_t value = 0;
  if (json_->is_number_unsigned()) {
    const auto number = json_->get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) refuse("is too large");
    value = static_cast<int64_t>(number);
  } else if (json_->is_number_integer()) {
    value = json_->get<int64_t>();
  } else {
    // As Python reads it, 1e3 is whole.
    const double number = json_->is_number_float() ? json_->get<double>() : std::nan("");
    if (!(std::fabs(number) < 9e15) || number != std::floor(number)) refuse("is no whole number");
    value = static_cast<int64_t>(number);
  }
  if (value < least || value > most) {
    refuse("is " + std::to_string(value) + "; allowed are " + std::to_string(least) + " to " +
           std::to_string(most));
  }
  return value;
}

double Value::number() const {
  if (!json_->is_number()) refuse("is no number");
  const auto value = json_->get<double>();
  if (!std::isfinite(value)) refuse("is no finite number");
  return value;
}

double Value::number(double least, double most, bool above) const {
  const double value = number();
  if (value < least || value > most || (above && value == least)) {
    refuse("is " + shown(value) + "; allowed are numbers " + (above ? "above " : "from ") +
           shown(least) + " to " + shown(most));
  }
  return value;
}

bool Value::flag() const {
  if (!json_->is_boolean()) refuse("is neither true nor false");
  return json_->get<bool>();
}

std::string Value::text(size_t least) const {
  if (!json_->is_string()) refuse("is no text");
  auto value = json_->get<std::string>();
  const size_t size = characters(value);
  if (size > kLongest || size < least) {
    refuse("has " + std::to_string(size) + " characters; allowed are " + std::to_string(least) +
           " to " + std::to_string(kLongest));
  }
  return value;
}

std::string Value::one_of(std::initializer_list<const char*> allowed) const {
  const std::string value = text();
  std::string names;
  for (const char* name : allowed) {
    if (value == name) return value;
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  refuse("is " + in_quotes(value) + "; allowed are " + names);
}

std::string Value::file_name() const {
  const std::string name = text(1);
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 && static_cast<unsigned char>(c) < 0x80;
  };
  const auto inner = [&](char c) { return plain(c) || c == '.' || c == '_' || c == '-'; };
  if (name.size() > 128 || !plain(name[0]) || !std::all_of(name.begin(), name.end(), inner)) {
    refuse("is not a plain file name");
  }
  return name;
}

std::string Value::digest() const {
  const std::string value = text();
  const auto hexadecimal = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (value.size() != 64 || !std::all_of(value.begin(), value.end(), hexadecimal))
    refuse("is no SHA-256");
  return value;
}

std::vector<Value> Value::list(size_t least, size_t most) const {
  if (!json_->is_array()) refuse("is no list");
  if (json_->size() < least || json_->size() > most) {
    refuse("has " + std::to_string(json_->size()) + " entries; allowed are " +
           std::to_string(least) + (most == SIZE_MAX ? " or more" : " to " + std::to_string(most)));
  }
  std::vector<Value> found;
  for (const Json& item : *json_)
    found.emplace_back(item, inside(where_, std::to_string(found.size())));
  return found;
}

std::vector<double> Value::numbers(double least, double most, size_t fewest, size_t many,
                                   bool above) const {
  std::vector<double> found;
  for (const Value& item : list(fewest, many)) found.push_back(item.number(least, most, above));
  return found;
}

std::vector<std::pair<std::string, Value>> Value::entries() const {
  if (!json_->is_object()) refuse("is no table");
  std::vector<std::pair<std::string, Value>> found;
  for (const auto& [name, item] : json_->items()) {
    if (characters(name) > kLongest)
      refuse("has a name of " + std::to_string(name.size()) + " bytes");
    found.emplace_back(name, Value(item, inside(where_, name)));
  }
  return found;
}

Fields::Fields(const Value& value) : entries_(value.entries()), where_(value.where()) {}

std::optional<Value> Fields::find(const char* name) {
  known_.insert(name);
  for (const auto& [own, value] : entries_) {
    if (own == name) return value;
  }
  return std::nullopt;
}

Value Fields::at(const char* name) {
  const auto found = find(name);
  if (!found) throw WrongField(inside(where_, name), "is missing");
  return *found;
}

std::optional<Value> Fields::given(const char* name) {
  const auto found = find(name);
  return found && !found->is_null() ? found : std::nullopt;
}

void Fields::done() const {
  for (const auto& [name, value] : entries_) {
    if (known_.find(name) == known_.end()) throw WrongField(inside(where_, name), "is not known");
  }
}

}  // namespace flagdit::bundle
