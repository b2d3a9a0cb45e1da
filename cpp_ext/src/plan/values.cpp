#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "flagdit/error.h"
#include "flagdit/fields.h"

namespace flagdit {
namespace {

std::optional<double> number_of(const Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? 1.0 : 0.0;
  if (const Number* number = std::get_if<Number>(&value)) return number->value;
  return std::nullopt;
}

struct Texts {
  std::string operator()(std::monostate) const { return "None"; }
  std::string operator()(bool flag) const { return flag ? "True" : "False"; }
  std::string operator()(const std::string& text) const { return quoted(text); }
  std::string operator()(const Other& other) const { return other.text; }
  template <typename T>
  std::string operator()(const T& numbers) const {
    return text_of(numbers);
  }
};

}  // namespace

const Value* find(const Changes& changes, const std::string& name) {
  const auto found = std::find_if(changes.begin(), changes.end(),
                                  [&](const auto& change) { return change.first == name; });
  return found == changes.end() ? nullptr : &found->second;
}

Value take(Changes& changes, const std::string& name) {
  const auto found = std::find_if(changes.begin(), changes.end(),
                                  [&](const auto& change) { return change.first == name; });
  if (found == changes.end()) return std::monostate{};
  Value value = std::move(found->second);
  changes.erase(found);
  return value;
}

bool same(const Value& a, const Value& b) {
  const std::optional<double> x = number_of(a), y = number_of(b);
  if (x || y) return x == y;
  if (a.index() != b.index()) return false;
  if (std::holds_alternative<std::monostate>(a)) return true;
  if (const auto* text = std::get_if<std::string>(&a)) return *text == std::get<std::string>(b);
  if (const auto* list = std::get_if<std::vector<Number>>(&a)) {
    const auto& other = std::get<std::vector<Number>>(b);
    return std::equal(list->begin(), list->end(), other.begin(), other.end(),
                      [](const Number& m, const Number& n) { return m.value == n.value; });
  }
  return false;
}

std::string text_of(const Value& value) { return std::visit(Texts{}, value); }

std::string quoted(const std::string& text) {
  const bool single = text.find('\'') == std::string::npos || text.find('"') != std::string::npos;
  const char mark = single ? '\'' : '"';
  std::string out(1, mark);
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == mark || c == '\\') {
      out += {'\\', c};
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += {'\\', c == '\n' ? 'n' : c == '\r' ? 'r' : 't'};
    } else if (byte < 0x20 || byte == 0x7f) {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", byte);
      out += code;
    } else {
      out += c;
    }
  }
  return out + mark;
}

void refuse_whole(const std::string& name, const std::string& got, int64_t most) {
  throw Error(Fault::request, name + " is " + got + "; allowed are whole numbers, " +
                                  std::to_string(most) + " at most");
}

void check_whole(const char* name, int64_t value, int64_t most) {
  if (value < -most || value > most) refuse_whole(name, std::to_string(value), most);
}

}  // namespace flagdit
