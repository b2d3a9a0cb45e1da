// How a text is cut into pieces, of which no token reaches over the end.
#include <algorithm>
#include <stdexcept>
#include <utility>

#include "../printable.h"
#include "rules.h"
#include "unicode.h"

namespace flagdit::text {
namespace {

enum class Behavior { removed, isolated, contiguous, before, behind };

Behavior read_behavior(const Json& value) {
  const std::string name = value;
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "Contiguous") return Behavior::contiguous;
  if (name == "MergedWithPrevious") return Behavior::before;
  if (name == "MergedWithNext") return Behavior::behind;
  throw std::invalid_argument("the behaviour " + in_quotes(name) + " is not known");
}

// Matches joined to what is beside them, or to each other.
std::vector<Span> joined(std::vector<Span> spans, Behavior behavior) {
  if (behavior == Behavior::behind) std::reverse(spans.begin(), spans.end());
  std::vector<Span> found;
  bool previous = false;
  for (const Span& span : spans) {
    const bool joins =
        !found.empty() &&
        (behavior == Behavior::contiguous ? span.matched == previous : span.matched && !previous);
    if (!joins) {
      found.push_back(span);
    } else if (behavior == Behavior::behind) {
      found.back().begin = span.begin;
    } else {
      found.back().end = span.end;
    }
    previous = span.matched;
  }
  if (behavior == Behavior::behind) std::reverse(found.begin(), found.end());
  return found;
}

std::vector<Piece> cut(const Piece& piece, std::vector<Span> parts, Behavior behavior) {
  if (behavior != Behavior::removed && behavior != Behavior::isolated)
    parts = joined(std::move(parts), behavior);
  std::vector<Piece> found;
  for (const Span& part : parts) {
    const bool gone = behavior == Behavior::removed && part.matched;
    if (part.end > part.begin && !gone) {
      found.push_back(
          {piece.text.substr(part.begin, part.end - part.begin), piece.first && part.begin == 0});
    }
  }
  return found;
}

template <typename Is>
std::vector<Span> single(const std::u32string& text, Is is) {
  std::vector<Span> found;
  for (size_t i = 0; i < text.size(); ++i) {
    if (is(text[i])) found.push_back({i, i + 1, true});
  }
  return spans(text.size(), found);
}

template <typename Is>
Cut by_character(Is is, Behavior behavior) {
  return [=](const Piece& piece) { return cut(piece, single(piece.text, is), behavior); };
}

std::vector<Piece> through(const std::vector<Cut>& rules, std::vector<Piece> pieces) {
  for (const Cut& rule : rules) {
    std::vector<Piece> next;
    for (const Piece& piece : pieces) {
      for (Piece& part : rule(piece)) next.push_back(std::move(part));
    }
    pieces = std::move(next);
  }
  return pieces;
}

Cut in_order(std::vector<Cut> rules) {
  return [rules = std::move(rules)](const Piece& piece) { return through(rules, {piece}); };
}

Cut by_pattern(Pattern pattern, Behavior behavior, bool inverted) {
  return [=](const Piece& piece) {
    std::vector<Span> parts = spans(piece.text.size(), pattern.find(piece.text));
    for (Span& part : parts) part.matched = part.matched != inverted;
    return cut(piece, std::move(parts), behavior);
  };
}

Cut read_byte_level(const Json& rule) {
  static const char32_t* const usual =
      U"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
  const bool prefixed = rule.at("add_prefix_space"), cuts = rule.value("use_regex", true);
  const Cut apart = by_pattern(Pattern(cuts ? usual : U""), Behavior::isolated, false);
  return [=](Piece piece) {
    if (prefixed && (piece.text.empty() || piece.text[0] != U' ')) piece.text.insert(0, 1, U' ');
    std::vector<Piece> pieces = cuts ? apart(piece) : std::vector<Piece>{piece};
    for (Piece& part : pieces) part.text = visible_bytes(part.text);
    return pieces;
  };
}

Cut read_metaspace(const Json& rule) {
  const std::u32string mark = read_text(rule.at("replacement"));
  const std::string usual = rule.value("add_prefix_space", true) ? "always" : "never";
  const std::string scheme = rule.value("prepend_scheme", usual);
  const bool splits = rule.value("split", true);
  if (mark.size() != 1) throw std::invalid_argument("a replacement is not one character");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    throw std::invalid_argument("the scheme " + in_quotes(scheme) + " is not known");
  }
  return [=](Piece piece) -> std::vector<Piece> {
    std::replace(piece.text.begin(), piece.text.end(), U' ', mark[0]);
    const bool wanted = scheme == "always" || (scheme == "first" && piece.first);
    if (wanted && (piece.text.empty() || piece.text[0] != mark[0])) piece.text.insert(0, mark);
    if (!splits) return {piece};
    return cut(piece, single(piece.text, [&](char32_t c) { return c == mark[0]; }),
               Behavior::behind);
  };
}

Cut read_fixed_length(const Json& rule) {
  const size_t length = rule.value("length", size_t{5});
  if (length == 0) throw std::invalid_argument("pieces have no length");
  return [=](const Piece& piece) {
    std::vector<Span> parts;
    for (size_t at = 0; at < piece.text.size(); at += std::min(length, piece.text.size() - at)) {
      parts.push_back({at, at + std::min(length, piece.text.size() - at), false});
    }
    return cut(piece, parts, Behavior::isolated);
  };
}

Cut read_words() {  // \w+|[^\w\s]+
  return [](const Piece& piece) {
    const auto kind = [&](size_t i) {
      return is_word(piece.text[i]) ? 2 : is_space(piece.text[i]) ? 0 : 1;
    };
    std::vector<Span> parts;
    for (size_t begin = 0, end = 0; begin < piece.text.size(); begin = end) {
      while (end < piece.text.size() && kind(end) == kind(begin)) ++end;
      parts.push_back({begin, end, kind(begin) == 0});
    }
    return cut(piece, parts, Behavior::removed);
  };
}

}  // namespace

Cut read_pre_tokenizer(const Json& rule) {
  if (rule.is_null()) return [](const Piece& piece) { return std::vector<Piece>{piece}; };
  const std::string kind = rule.at("type");
  if (kind == "Sequence") {
    std::vector<Cut> rules;
    for (const Json& part : rule.at("pretokenizers")) rules.push_back(read_pre_tokenizer(part));
    return in_order(std::move(rules));
  }
  if (kind == "BertPreTokenizer") {
    return in_order({by_character(is_space, Behavior::removed),
                     by_character(is_punctuation, Behavior::isolated)});
  }
  if (kind == "Split") {
    return by_pattern(read_pattern(rule), read_behavior(rule.at("behavior")), rule.at("invert"));
  }
  if (kind == "Digits") {
    return by_character(is_numeric,
                        rule.at("individual_digits") ? Behavior::isolated : Behavior::contiguous);
  }
  if (kind == "CharDelimiterSplit") {
    const std::u32string mark = read_text(rule.at("delimiter"));
    return by_character([=](char32_t c) { return mark == std::u32string_view(&c, 1); },
                        Behavior::removed);
  }
  if (kind == "Punctuation")
    return by_character(is_punctuation, read_behavior(rule.value("behavior", Json("Isolated"))));
  if (kind == "WhitespaceSplit") return by_character(is_space, Behavior::removed);
  if (kind == "Whitespace") return read_words();
  if (kind == "ByteLevel") return read_byte_level(rule);
  if (kind == "Metaspace") return read_metaspace(rule);
  if (kind == "FixedLength") return read_fixed_length(rule);
  refuse_kind(kind);
}

}  // namespace flagdit::text
