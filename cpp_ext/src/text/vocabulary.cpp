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
}

int64_t Vocabulary::id(std::string_view word) const {
  const auto found = ids_.find(word);
  return found == ids_.end() ? -1 : found->second;
}

void Vocabulary::sort() {
  sorted_.assign(ids_.begin(), ids_.end());
  std::sort(sorted_.begin(), sorted_.end());
}

bool Vocabulary::Prefix::read(char byte) {
  const auto code =
      [at = depth_](const Entry& entry) {  // of the word's byte here; shorter words come first
        return entry.first.size() > at ? static_cast<unsigned char>(entry.first[at]) : -1;
      };
  const int wanted = static_cast<unsigned char>(byte);
  first_ =
      std::partition_point(first_, last_, [&](const Entry& entry) { return code(entry) < wanted; });
  last_ = std::partition_point(first_, last_,
                               [&](const Entry& entry) { return code(entry) == wanted; });
  ++depth_;
  return first_ != last_;
}

int64_t Vocabulary::Prefix::id() const {
  return first_ != last_ && first_->first.size() == depth_ ? first_->second : -1;
}

int64_t Vocabulary::byte(unsigned char value) const {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", value);
  return id(name);
}

bool Vocabulary::append_bytes(std::string_view word, std::vector<int64_t>& ids) const {
  const size_t before = ids.size();
  for (const char c : word) {
    const int64_t id = byte(static_cast<unsigned char>(c));
    if (id < 0) {
      ids.resize(before);
      return false;
    }
    ids.push_back(id);
  }
  return true;
}

}  // namespace flagdit::text
