// A table of options, whose fields are taken one by one.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>

#include "../src/printable.h"
#include "flagdit/error.h"
#include "flagdit/number.h"
#include "said.h"

namespace flagdit::said {

using Json = nlohmann::ordered_json;

[[noreturn]] inline void refuse(const std::string& text) { throw Error(Fault::request, text); }

[[noreturn]] inline void refuse_kind(const std::string& name, const Json& value,
                                     const std::string& allowed) {
  refuse(name + " is " + shortened(value.dump(-1, ' ', true, Json::error_handler_t::replace)) +
         "; allowed is " + allowed);
}

class Said {
 public:
  explicit Said(const Json& table) : table_(table) {
    if (!table.is_object()) refuse_kind("the request", table, "a table of options");
  }

  // Null if it is not said.
  const Json* take(const std::string& name) {
    known_.insert(name);
    const auto found = table_.find(name);
    return found == table_.end() || found->is_null() ? nullptr : &*found;
  }

  std::string text(const std::string& name) {
    const Json* found = take(name);
    if (found == nullptr) return "";
    if (!found->is_string()) refuse_kind(name, *found, "a text");
    return found->get<std::string>();
  }

  // A number, or a text of one.
  std::optional<Number> number(const std::string& name) {
    const Json* found = take(name);
    if (found == nullptr) return std::nullopt;
    if (found->is_string()) return read_number(name, found->get<std::string>());
    return of(name, *found);
  }

  bool flag(const std::string& name) {
    const Json* found = take(name);
    if (found == nullptr) return false;
    if (!found->is_boolean()) refuse_kind(name, *found, "true or false");
    return found->get<bool>();
  }

  static Number of(const std::string& name, const Json& value) {
    if (value.is_number_integer() &&
        (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX)) {
      return Number(value.get<int64_t>());
    }
    if (!value.is_number()) refuse_kind(name, value, "a number");
    return Number(value.get<double>());
  }

  void done() const {
    for (const auto& [name, value] : table_.items()) {
      if (known_.count(name) == 0)
        refuse(in_quotes(name) + " is no option of a request; see docs/runtime.md");
    }
  }

 private:
  const Json& table_;
  std::set<std::string> known_;
};

inline int64_t whole(const std::string& name, const Number& number) {
  if (!number.whole) refuse(name + " is " + text_of(number) + "; allowed are whole numbers");
  return static_cast<int64_t>(number.value);
}

// How to sample (said_options.cpp).
Options read_options(Said& said);

}  // namespace flagdit::said
