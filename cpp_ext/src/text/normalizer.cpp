// What is done to a text before it is cut.
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <utility>

#include "rules.h"
#include "unicode.h"

namespace flagdit::text {
namespace {

void erase(std::u32string& text, bool (*unwanted)(char32_t)) {
  text.erase(std::remove_if(text.begin(), text.end(), unwanted), text.end());
}

void lower(std::u32string& text) {
  std::u32string made;
  made.reserve(text.size());
  for (const char32_t c : text) append_lower(made, c);
  text = std::move(made);
}

void clean(std::u32string& text) {
  erase(text, [](char32_t c) { return c == 0 || c == 0xFFFD || is_control(c); });
  std::replace_if(text.begin(), text.end(), is_space, U' ');
}

void space_ideographs(std::u32string& text) {
  std::u32string made;
  made.reserve(text.size());
  for (const char32_t c : text) {
    if (is_ideograph(c)) {
      made += {U' ', c, U' '};
    } else {
      made += c;
    }
  }
  text = std::move(made);
}

Rewrite read_bert(const Json& rule) {
  const auto on = [&](const char* name, bool usual) {
    const auto found = rule.find(name);
    return found == rule.end() || found->is_null() ? usual : found->get<bool>();
  };
  const bool cleans = on("clean_text", true), spaces = on("handle_chinese_chars", true);
  const bool lowers = on("lowercase", true), strips = on("strip_accents", lowers);
  return [=](std::u32string& text) {
    if (cleans) clean(text);
    if (spaces) space_ideographs(text);
    if (strips) {
      text = decomposed(text, false);
      erase(text, is_accent);
    }
    if (lowers) lower(text);
  };
}

void strip(std::u32string& text, bool left, bool right) {
  if (right) {
    while (!text.empty() && is_space(text.back())) text.pop_back();
  }
  if (left) text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), is_space));
}

// SentencePiece's own first step: controls go, and other breaks become spaces.
void nmt(std::u32string& text) {
  erase(text, [](char32_t c) {
    return (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F ||
           c == 0x9F;
  });
  std::replace_if(
      text.begin(), text.end(),
      [](char32_t c) {
        return c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
               (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
               c == 0xFEFF || c == 0xFFFD;
      },
      U' ');
}

void replace(std::u32string& text, const Pattern& pattern, const std::u32string& content) {
  std::u32string made;
  for (const Span& span : spans(text.size(), pattern.find(text))) {
    made += span.matched ? content : text.substr(span.begin, span.end - span.begin);
  }
  text = std::move(made);
}

Rewrite read_sequence(const Json& parts) {
  std::vector<Rewrite> rules;
  for (const Json& part : parts) rules.push_back(read_normalizer(part));
  return [rules](std::u32string& text) {
    for (const Rewrite& rule : rules) rule(text);
  };
}

Rewrite read_other(const std::string& kind, const Json& rule) {
  if (kind == "Strip") {
    const bool left = rule.at("strip_left"), right = rule.at("strip_right");
    return [=](std::u32string& text) { strip(text, left, right); };
  }
  if (kind == "Replace") {
    const Pattern pattern = read_pattern(rule);
    const std::u32string content = read_text(rule.at("content"));
    return [=](std::u32string& text) { replace(text, pattern, content); };
  }
  if (kind == "Prepend") {
    const std::u32string before = read_text(rule.at("prepend"));
    return [=](std::u32string& text) {
      if (!text.empty()) text.insert(0, before);
    };
  }
  if (kind == "Precompiled") {
    const Json& map = rule.at("precompiled_charsmap");
    return read_charsmap(map.is_null() ? "" : map.get<std::string>());
  }
  refuse_kind(kind);
}

}  // namespace

Rewrite read_normalizer(const Json& rule) {
  if (rule.is_null()) return [](std::u32string&) {};
  const std::string kind = rule.at("type");
  if (kind == "Sequence") return read_sequence(rule.at("normalizers"));
  if (kind == "BertNormalizer") return read_bert(rule);
  if (kind == "Lowercase") return lower;
  if (kind == "NFD") return [](std::u32string& text) { text = decomposed(text, false); };
  if (kind == "NFKD") return [](std::u32string& text) { text = decomposed(text, true); };
  if (kind == "NFC") return [](std::u32string& text) { text = composed(text, false); };
  if (kind == "NFKC") return [](std::u32string& text) { text = composed(text, true); };
  if (kind == "StripAccents") return [](std::u32string& text) { erase(text, is_combining); };
  if (kind == "Nmt") return nmt;
  if (kind == "ByteLevel") return [](std::u32string& text) { text = visible_bytes(text); };
  return read_other(kind, rule);
}

}  // namespace flagdit::text
