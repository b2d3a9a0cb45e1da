// The regular expressions that tokenizers are written with: classes of characters, repeated, in a
// row and beside each other. What is more than that (groups that repeat, references back) is
// refused, so that no file makes a search without end.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flagdit::text {

struct Span {
  size_t begin, end;
  bool matched;
};

// The whole text as spans in order, of which some are matched.
std::vector<Span> spans(size_t size, const std::vector<Span>& matches);

class Pattern {
 public:
  // Throws std::invalid_argument for what is not known here.
  explicit Pattern(std::u32string_view source);

  // A text as it stands.
  static Pattern literal(std::u32string_view text);

  // Where it matches, from left to right, never twice in one place.
  std::vector<Span> find(std::u32string_view text) const;

 private:
  struct Item {  // of a class
    enum Kind { range, space, letter, number, mark, sign, word } kind;
    bool negated;
    char32_t first, last;
  };
  struct Set {
    std::vector<Item> items;
    bool negated = false, folded = false;
    bool has(char32_t c) const;
  };
  struct Atom {  // a class, how often; or a group of branches, once; or what must (not) follow
    Set set;
    size_t least = 1, most = 1;
    bool possessive = false;
    enum Kind { one, group, follows, follows_not, begins, ends } kind = one;
    std::vector<std::vector<Atom>> branches;
  };
  using Branches = std::vector<std::vector<Atom>>;
  struct Reader;
  struct Search;

  Pattern() = default;
  Branches branches_;
  std::u32string literal_;  // in their place
};

}  // namespace flagdit::text
