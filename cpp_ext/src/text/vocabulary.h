// The words of a model and their numbers: many, short, and looked up by parts of texts.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

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
  // Adds those of all bytes of a word; false, and nothing added, if one has none.
  bool append_bytes(std::string_view word, std::vector<int64_t>& ids) const;
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }

  // The words that begin in one way, in order: what is left of them when a text is read byte by
  // byte. That takes no longer than the text is, whatever the words are.
  class Prefix {
   public:
    // Reads one more byte; false: no word begins so.
    bool read(char byte);
    // Of the word that was read to its end; -1: there is none.
    int64_t id() const;

   private:
    friend class Vocabulary;
    using Entry = std::pair<std::string_view, int64_t>;
    Prefix(const Entry* first, const Entry* last) : first_(first), last_(last) {}
    const Entry *first_, *last_;
    size_t depth_ = 0;
  };
  // Of no byte yet. Call `sort` before, and add nothing after.
  Prefix begin() const { return {sorted_.data(), sorted_.data() + sorted_.size()}; }
  void sort();

 private:
  std::deque<std::string> words_;
  std::unordered_map<std::string_view, int64_t> ids_;
  std::vector<Prefix::Entry> sorted_;
};

}  // namespace flagdit::text
