// A JSON document, read field by field: what is not
// asked for is refused, what is out of bounds too.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "../json.h"

namespace flagdit::bundle {

// What is wrong, and where; read_manifest makes an Error of it.
struct WrongField : std::runtime_error {
  WrongField(const std::string& where, const std::string& what)
      : std::runtime_error(what), where(where) {}
  std::string where;
};

class Value {
 public:
  Value(const Json& json, std::string where) : json_(&json), where_(std::move(where)) {}

  [[noreturn]] void refuse(const std::string& what) const { throw WrongField(where_, what); }
  bool is_null() const { return json_->is_null(); }
  bool is_object() const { return json_->is_object(); }
  bool is_text() const { return json_->is_string(); }
  bool is_number() const { return json_->is_number(); }
  const std::string& where() const { return where_; }

  int64_t whole(int64_t least = INT64_MIN, int64_t most = INT64_MAX) const;
  double number(double least, double most, bool above = false) const;  // above: more than `least`
  double number() const;
  bool flag() const;
  std::string text(size_t least = 0) const;  // of so many characters, and at most 2000
  std::string one_of(std::initializer_list<const char*> allowed) const;
  std::string file_name() const;
  std::string digest() const;

  std::vector<Value> list(size_t least = 0, size_t most = SIZE_MAX) const;
  std::vector<double> numbers(double least, double most, size_t fewest = 0, size_t many = SIZE_MAX,
                              bool above = false) const;
  std::vector<std::pair<std::string, Value>> entries() const;  // of a table

 private:
  const Json* json_;
  std::string where_;
};

// A table whose fields are known: reads each once, and refuses the rest when it is done.
class Fields {
 public:
  explicit Fields(const Value& value);

  Value at(const char* name);                    // refuses a table without it
  std::optional<Value> find(const char* name);   // none if it is not there
  std::optional<Value> given(const char* name);  // none if it is null, too
  void done() const;

 private:
  std::vector<std::pair<std::string, Value>> entries_;
  std::string where_;
  std::set<std::string> known_;
};

}  // namespace flagdit::bundle
