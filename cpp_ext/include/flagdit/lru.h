// A map of at most `capacity` values, which forgets the one that was not asked for the longest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <stdexcept>
#include <utility>

namespace flagdit {

template <typename Key, typename Value>
class Lru {
 public:
  explicit Lru(size_t capacity) : capacity_(capacity) {
    if (capacity == 0) throw std::invalid_argument("Lru: capacity: got 0, allowed 1 or more");
  }

  // The value of a key, made by make() if there is none, valid until the next call. If make()
  // throws, nothing has changed. Searches in a line: meant for a dozen.
  template <typename Make>
  Value& get(const Key& key, Make&& make) {
    const auto found = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const auto& entry) { return entry.first == key; });
    if (found != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, found);
    } else {
      entries_.emplace_front(key, make());
      if (entries_.size() > capacity_) entries_.pop_back();
    }
    return entries_.front().second;
  }

  // Whether there is one, which is not asking for it.
  bool has(const Key& key) const {
    return std::any_of(entries_.begin(), entries_.end(),
                       [&](const auto& entry) { return entry.first == key; });
  }

  size_t size() const { return entries_.size(); }

 private:
  size_t capacity_;
  std::list<std::pair<Key, Value>> entries_;  // last asked for first
};

}  // namespace flagdit
