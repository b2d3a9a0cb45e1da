// The words of a model and their numbers: many, short, and looked up by parts of texts.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

#include "../json.h"

namespace flagdit::text {

class Vocabulary {
 public:
  Vocabulary() = default;
  // Of an object of words and numbers. Throws Json::exception, or std::invalid_argument.
  explicit Vocabulary(const Json& words);
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  void add(const std::string& word, int64_t id);
  int64_t id(std::string_view word) const;  // -1: it has none
  // Of one of the names that a model has for a byte: <0x0A>. -1: it has none.
  int64_t byte(unsigned char value) const;
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  size_t longest() const { return longest_; }  // bytes of a word

 private:
  std::deque<std::string> words_;
  std::unordered_map<std::string_view, int64_t> ids_;
  size_t longest_ = 0;
};

}  // namespace flagdit::text
