// Fields of Regions by the names that users, reports and bundles know: those of Python's RasConfig.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "flagdit/regions.h"

namespace flagdit {

// What no field takes, and how a message quotes it. item: the entry of a list that is at fault.
struct Other {
  std::string text, item;
};

// What somebody says of a field; std::monostate is None. A list may be of numbers only.
using Value = std::variant<std::monostate, bool, Number, std::string, std::vector<Number>, Other>;

// In the order in which they were said.
using Changes = std::vector<std::pair<std::string, Value>>;

std::vector<std::string> field_names();

// Throw Error for a name that is none; the first also for a value of another kind. Bounds are for
// the plan to check.
void set_field(Regions& regions, const std::string& name, const Value& value);
Value field_of(const Regions& regions, const std::string& name);

// Null if nothing was said of it.
const Value* find(const Changes& changes, const std::string& name);
// Takes it out of the changes; std::monostate if nothing was said of it.
Value take(Changes& changes, const std::string& name);

// As Python compares: 1, 1.0 and True are the same.
bool same(const Value& a, const Value& b);

// As Python writes it.
std::string text_of(const Value& value);
std::string quoted(const std::string& text);

// Throws Error for a whole number above `most` in either direction.
void check_whole(const char* name, int64_t value, int64_t most);
[[noreturn]] void refuse_whole(const std::string& name, const std::string& got, int64_t most);

}  // namespace flagdit
