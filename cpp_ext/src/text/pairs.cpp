// Byte pair encoding: of two neighbours, those that were joined first in training are joined first
// (GPT-2, CLIP, Llama; Sennrich et al. 2016).
#include <memory>
#include <optional>
#include <queue>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "rules.h"
#include "vocabulary.h"

namespace flagdit::text {
namespace {

struct Merge {
  int64_t rank, id;
};

struct Symbol {
  int64_t id;
  int prev, next;
  bool gone = false;
};

struct Joining {
  int64_t rank;
  int at;
  int64_t id;
  bool operator<(const Joining& other) const {  // the first of a queue is its largest
    return rank != other.rank ? rank > other.rank : at > other.at;
  }
};

std::string text_or_none(const Json& model, const char* name) {
  const auto found = model.find(name);
  return found == model.end() || found->is_null() ? "" : found->get<std::string>();
}

bool flag(const Json& model, const char* name) {
  const auto found = model.find(name);
  return found != model.end() && !found->is_null() && found->get<bool>();
}

std::pair<std::string, std::string> parts_of(const Json& merge) {
  if (merge.is_array() && merge.size() == 2) return {merge[0], merge[1]};
  const std::string text = merge;
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    throw std::invalid_argument("a merge is not of two parts");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

class Pairs : public Model {
 public:
  explicit Pairs(const Json& model)
      : words_(model.at("vocab")),
        unknown_(text_or_none(model, "unk_token")),
        prefix_(text_or_none(model, "continuing_subword_prefix")),
        suffix_(text_or_none(model, "end_of_word_suffix")),
        fuses_(flag(model, "fuse_unk")),
        falls_back_(flag(model, "byte_fallback")),
        whole_first_(flag(model, "ignore_merges")) {
    const auto dropout = model.find("dropout");
    if (dropout != model.end() && !dropout->is_null() && *dropout != 0.0) {
      throw std::invalid_argument("a dropout, which makes other tokens every time");
    }
    int64_t rank = 0;
    for (const Json& merge : model.at("merges")) {
      if (merge.is_string() && merge.get_ref<const std::string&>().rfind("#version", 0) == 0)
        continue;
      add(parts_of(merge), rank++);
    }
  }

  int64_t id(std::string_view token) const override { return words_.id(token); }
  int64_t size() const override { return words_.size(); }

  void append(std::string_view piece, std::vector<int64_t>& ids) const override {
    const int64_t whole = whole_first_ ? words_.id(piece) : -1;
    if (whole >= 0) {
      ids.push_back(whole);
      return;
    }
    join(symbols(piece), ids);
  }

 private:
  static uint64_t key(int64_t a, int64_t b) {
    return static_cast<uint64_t>(a) << 32 | static_cast<uint64_t>(b);
  }

  void add(const std::pair<std::string, std::string>& parts, int64_t rank) {
    const auto& [a, b] = parts;
    if (b.size() < prefix_.size())
      throw std::invalid_argument("a merge lacks the prefix of parts of words");
    const int64_t left = words_.id(a), right = words_.id(b),
                  made = words_.id(a + b.substr(prefix_.size()));
    if (left < 0 || right < 0 || made < 0)
      throw std::invalid_argument("a merge is not in the vocabulary");
    merges_[key(left, right)] = {rank, made};
  }

  // One a character, or a byte of one that the vocabulary lacks.
  std::vector<Symbol> symbols(std::string_view piece) const {
    std::vector<int64_t> ids;
    std::optional<int64_t> unknown;  // not put there yet: what follows may be one with it
    for (size_t begin = 0, end = 0; begin < piece.size(); begin = end) {
      do {
        ++end;
      } while (end < piece.size() && (static_cast<unsigned char>(piece[end]) & 0xC0) == 0x80);
      const std::string word = (begin == 0 ? "" : prefix_) +
                               std::string(piece.substr(begin, end - begin)) +
                               (end == piece.size() ? suffix_ : "");
      const int64_t id = words_.id(word);
      if (id >= 0) {
        if (unknown) ids.push_back(*unknown);
        unknown.reset();
        ids.push_back(id);
      } else if (!falls_back_ || !words_.append_bytes(word, ids)) {
        if (unknown_.empty()) continue;
        if (unknown && !fuses_) ids.push_back(*unknown);
        unknown = words_.id(unknown_);
        if (*unknown < 0)
          throw std::runtime_error("its word for what is unknown is not in its vocabulary");
      }
    }
    if (unknown) ids.push_back(*unknown);
    std::vector<Symbol> found;
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool last = i + 1 == ids.size();
      found.push_back({ids[i], static_cast<int>(i) - 1, last ? -1 : static_cast<int>(i) + 1});
    }
    return found;
  }

  void push(std::priority_queue<Joining>& queue, const std::vector<Symbol>& symbols, int at) const {
    if (at < 0 || symbols[at].next < 0) return;
    const auto found = merges_.find(key(symbols[at].id, symbols[symbols[at].next].id));
    if (found != merges_.end()) queue.push({found->second.rank, at, found->second.id});
  }

  void join(std::vector<Symbol> symbols, std::vector<int64_t>& ids) const {
    std::priority_queue<Joining> queue;
    for (size_t i = 0; i < symbols.size(); ++i) push(queue, symbols, static_cast<int>(i));
    while (!queue.empty()) {
      const Joining top = queue.top();
      queue.pop();
      Symbol& left = symbols[top.at];
      if (left.gone || left.next < 0) continue;
      Symbol& right = symbols[left.next];
      const auto still = merges_.find(key(left.id, right.id));
      if (still == merges_.end() || still->second.id != top.id)
        continue;  // one of them was joined since
      left.id = top.id;
      left.next = right.next;
      right.gone = true;
      if (right.next >= 0) symbols[right.next].prev = top.at;
      push(queue, symbols, left.prev);
      push(queue, symbols, top.at);
    }
    for (const Symbol& symbol : symbols) {
      if (!symbol.gone) ids.push_back(symbol.id);
    }
  }

  const Vocabulary words_;
  const std::string unknown_, prefix_, suffix_;
  const bool fuses_, falls_back_, whole_first_;
  std::unordered_map<uint64_t, Merge> merges_;
};

}  // namespace

std::unique_ptr<Model> read_pairs(const Json& model) { return std::make_unique<Pairs>(model); }

}  // namespace flagdit::text
