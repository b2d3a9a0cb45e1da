#include "pattern.h"

#include <stdexcept>

#include "unicode.h"

namespace flagdit::text {
namespace {

constexpr size_t kSteps = 20000000;  // of a search; what tokenizers ship takes some for a character

bool belongs(int kind, char32_t c, bool (*const (&classes)[6])(char32_t)) {
  return classes[kind - 1](c);
}

// Characters that differ in case alone are one: also
// the two that are no letters of ASCII but fold to one.
char32_t folded(char32_t c) {
  if (c == 0x17F) return U's';
  if (c == 0x212A) return U'k';
  std::u32string lower;
  append_lower(lower, c);
  return lower.size() == 1 ? lower[0] : c;
}

}  // namespace

bool Pattern::Set::has(char32_t c) const {
  static constexpr bool (*const classes[6])(char32_t) = {is_space, is_letter, is_number,
                                                         is_mark,  is_sign,   is_word};
  bool found = false;
  for (const Item& item : items) {
    const bool in = item.kind == Item::range ? (item.first <= c && c <= item.last) ||
                                                   (folded && item.first == item.last &&
                                                    text::folded(c) == text::folded(item.first))
                                             : belongs(item.kind, c, classes);
    found = found || in != item.negated;
  }
  return found != negated;
}

// Tries branches in order, and what repeats as often as it can first.
struct Pattern::Search {
  std::u32string_view text;
  size_t steps = 0;

  // What is left to match of a row of atoms, and of those around it.
  struct Rest {
    const std::vector<Atom>* row;
    size_t index;
    const Rest* outer;
  };

  static constexpr size_t kNone = SIZE_MAX;

  size_t match(const Rest* rest, size_t at) {
    while (rest != nullptr && rest->index == rest->row->size()) rest = rest->outer;
    if (rest == nullptr) return at;
    const Atom& atom = (*rest->row)[rest->index];
    const Rest after{rest->row, rest->index + 1, rest->outer};
    switch (atom.kind) {
      case Atom::begins:
        return at == 0 ? match(&after, at) : kNone;
      case Atom::ends:
        return at == text.size() || (at + 1 == text.size() && text[at] == U'\n') ? match(&after, at)
                                                                                 : kNone;
      case Atom::group:
        return any(atom.branches, &after, at);
      case Atom::follows:
      case Atom::follows_not:
        return (any(atom.branches, nullptr, at) != kNone) == (atom.kind == Atom::follows)
                   ? match(&after, at)
                   : kNone;
      default:
        return repeat(atom, &after, at);
    }
  }

  size_t any(const Branches& branches, const Rest* outer, size_t at) {
    for (const auto& branch : branches) {
      const Rest inner{&branch, 0, outer};
      const size_t end = match(&inner, at);
      if (end != kNone) return end;
    }
    return kNone;
  }

  size_t repeat(const Atom& atom, const Rest* after, size_t at) {
    size_t count = 0;
    while (count < atom.most && at + count < text.size() && atom.set.has(text[at + count])) ++count;
    steps += count + 1;
    if (steps > kSteps) throw std::runtime_error("its pattern searches without end");
    if (count < atom.least) return kNone;
    const size_t least = atom.possessive ? count : atom.least;
    for (size_t taken = count + 1; taken-- > least;) {
      const size_t end = match(after, at + taken);
      if (end != kNone) return end;
      if (++steps > kSteps) throw std::runtime_error("its pattern searches without end");
    }
    return kNone;
  }
};

Pattern Pattern::literal(std::u32string_view text) {
  Pattern pattern;
  pattern.literal_ = text;
  return pattern;
}

std::vector<Span> Pattern::find(std::u32string_view text) const {
  Search search{text};
  std::vector<Span> found;
  for (size_t at = 0; !literal_.empty(); at += literal_.size()) {
    at = text.find(literal_, at);
    if (at == std::u32string_view::npos) return found;
    found.push_back({at, at + literal_.size(), true});
  }
  for (size_t at = 0; at < text.size();) {
    const size_t end = search.any(branches_, nullptr, at);
    if (end != Search::kNone && end > at) found.push_back({at, end, true});
    at = end != Search::kNone && end > at ? end : at + 1;
  }
  return found;
}

std::vector<Span> spans(size_t size, const std::vector<Span>& matches) {
  std::vector<Span> all;
  size_t at = 0;
  for (const Span& match : matches) {
    if (match.begin > at) all.push_back({at, match.begin, false});
    all.push_back(match);
    at = match.end;
  }
  if (size > at) all.push_back({at, size, false});
  return all;
}

}  // namespace flagdit::text
