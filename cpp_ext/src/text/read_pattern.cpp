// How patterns are read: a descent over what may stand in one.
#include <stdexcept>

#include "../printable.h"
#include "pattern.h"
#include "unicode.h"

namespace flagdit::text {
namespace {

constexpr size_t kForever = SIZE_MAX;
constexpr size_t kLongest = 1000;  // those of tokenizers have 150 characters

}  // namespace

struct Pattern::Reader {
  std::u32string_view source;
  size_t at = 0;
  bool folded = false;
  int depth = 0;

  [[noreturn]] void refuse() const {
    throw std::invalid_argument("the pattern " + in_quotes(encode(source)) +
                                " is none that is known here");
  }
  bool more() const { return at < source.size(); }
  char32_t peek() const { return more() ? source[at] : 0; }
  char32_t next() {
    if (!more()) refuse();
    return source[at++];
  }
  bool skip(std::u32string_view text) {
    if (source.substr(at, text.size()) != text) return false;
    at += text.size();
    return true;
  }

  Branches branches() {
    if (++depth > 8) refuse();
    Branches found(1);
    while (more() && peek() != U')') {
      if (skip(U"|")) {
        found.emplace_back();
      } else {
        found.back().push_back(atom());
      }
    }
    --depth;
    return found;
  }

  Atom atom() {
    Atom found;
    if (skip(U"^")) {
      found.kind = Atom::begins;
    } else if (skip(U"$")) {
      found.kind = Atom::ends;
    } else if (peek() == U'(') {
      found = group();
    } else {
      found.set = set();
    }
    const bool repeated =
        more() && (peek() == U'?' || peek() == U'*' || peek() == U'+' || peek() == U'{');
    if (repeated && found.kind != Atom::one) refuse();
    if (repeated) times(found);
    return found;
  }

  Atom group() {
    Atom found;
    const bool before = folded;
    if (skip(U"(?!")) {
      found.kind = Atom::follows_not;
    } else if (skip(U"(?=")) {
      found.kind = Atom::follows;
    } else {
      found.kind = Atom::group;
      if (skip(U"(?i:")) {
        folded = true;
      } else if (!skip(U"(?:")) {
        if (source.substr(at, 2) == U"(?" || !skip(U"(")) refuse();
      }
    }
    found.branches = branches();
    folded = before;
    if (!skip(U")")) refuse();
    return found;
  }

  void times(Atom& found) {
    if (skip(U"?")) {
      found.least = 0;
    } else if (skip(U"*")) {
      found.least = 0, found.most = kForever;
    } else if (skip(U"+")) {
      found.most = kForever;
    } else {
      skip(U"{");
      found.least = number();
      found.most = !skip(U",") ? found.least : peek() == U'}' ? kForever : number();
      if (!skip(U"}") || found.most < found.least) refuse();
      if (peek() == U'+') refuse();  // means another thing to each library
    }
    found.possessive = skip(U"+");
    if (peek() == U'?' || peek() == U'*') refuse();
  }

  size_t number() {
    size_t value = 0, digits = 0;
    for (; peek() >= U'0' && peek() <= U'9' && digits < 6; ++digits)
      value = 10 * value + (next() - U'0');
    if (digits == 0) refuse();
    return value;
  }

  Set set() {
    Set found;
    found.folded = folded;
    if (!skip(U"[")) {
      if (skip(U".")) {
        found.items = {{Item::range, true, U'\n', U'\n'}};
      } else {
        found.items = {item(false)};
      }
      return found;
    }
    found.negated = skip(U"^");
    do {
      if (peek() == U'[' || source.substr(at, 2) == U"&&") refuse();  // sets of sets
      found.items.push_back(item(true));
    } while (peek() != U']');
    ++at;
    return found;
  }

  Item item(bool inside) {
    char32_t c = next();
    if (c == U'\\') {
      c = next();
      switch (c) {
        case U's':
        case U'S':
          return {Item::space, c == U'S', 0, 0};
        case U'w':
        case U'W':
          refuse();  // of another Unicode there than elsewhere
        case U'p':
        case U'P':
          return property(c == U'P');
        case U'n':
          c = U'\n';
          break;
        case U'r':
          c = U'\r';
          break;
        case U't':
          c = U'\t';
          break;
        default:
          if ((c >= U'0' && c <= U'9') || (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z'))
            refuse();
      }
    } else if (!inside && (c == U')' || c == U'*' || c == U'+' || c == U'?' || c == U'{')) {
      refuse();
    }
    char32_t last = c;
    if (inside && peek() == U'-' && at + 1 < source.size() && source[at + 1] != U']') {
      ++at;
      last = next();
      if (last == U'\\' || last == U'[' || last < c) refuse();
    }
    return {Item::range, false, c, last};
  }

  Item property(bool negated) {
    const bool braced = skip(U"{");
    if (braced && skip(U"^")) negated = !negated;
    const char32_t name = next();
    if (braced && !skip(U"}")) refuse();
    switch (name) {
      case U'L':
        return {Item::letter, negated, 0, 0};
      case U'N':
        return {Item::number, negated, 0, 0};
      case U'M':
        return {Item::mark, negated, 0, 0};
      case U'P':
        return {Item::sign, negated, 0, 0};
      default:
        refuse();
    }
  }
};

Pattern::Pattern(std::u32string_view source) {
  Reader reader{source};
  if (source.size() > kLongest) reader.refuse();
  branches_ = reader.branches();
  if (reader.more()) reader.refuse();
}

}  // namespace flagdit::text
