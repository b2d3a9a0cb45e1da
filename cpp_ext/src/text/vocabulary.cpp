#include "vocabulary.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

namespace flagdit::text {

Vocabulary::Vocabulary(const Json& words) {
  if (!words.is_object()) throw std::invalid_argument("a vocabulary is no table of words");
  ids_.reserve(words.size());
  for (const auto& [word, id] : words.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > UINT32_MAX) {
      throw std::invalid_argument("a word has no number of its own");
    }
    add(word, id.get<int64_t>());
  }
}

void Vocabulary::add(const std::string& word, int64_t id) {
  const auto found = ids_.find(word);
  if (found != ids_.end()) {
    found->second = id;
    return;
  }
  words_.push_back(word);
  ids_.emplace(words_.back(), id);
  longest_ = std::max(longest_, word.size());
}

int64_t Vocabulary::id(std::string_view word) const {
  const auto found = ids_.find(word);
  return found == ids_.end() ? -1 : found->second;
}

int64_t Vocabulary::byte(unsigned char value) const {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", value);
  return id(name);
}

}  // namespace flagdit::text
