// How much longer the rules of a tokenizer can make a text, from the file alone: chained, a few of
// them make gigabytes of a sentence.
#include <algorithm>
#include <stdexcept>
#include <unordered_map>

#include "flagdit/error.h"
#include "rules.h"
#include "unicode.h"

namespace flagdit::text {
namespace {

constexpr int64_t kMaxGrowth = 1024;  // of all rules together: ALBERT's could reach 972
constexpr int64_t kMaxAdded = 64;     // tokens added to every text, parts of a sequence
constexpr int64_t kMost = int64_t{1} << 40;

// Of rules whose growth does not depend on what the file says.
int64_t usual(const std::string& kind) {
  static const std::unordered_map<std::string, int64_t> table = {{"NFC", 4},
                                                                 {"NFD", 4},
                                                                 {"NFKC", 18},
                                                                 {"NFKD", 18},
                                                                 {"Strip", 1},
                                                                 {"StripAccents", 1},
                                                                 {"Nmt", 1},
                                                                 {"Lowercase", 3},
                                                                 {"BertNormalizer", 36},
                                                                 {"ByteLevel", 4},
                                                                 {"BertPreTokenizer", 1},
                                                                 {"CharDelimiterSplit", 1},
                                                                 {"FixedLength", 1},
                                                                 {"Metaspace", 1},
                                                                 {"Split", 1},
                                                                 {"Punctuation", 1},
                                                                 {"Digits", 1},
                                                                 {"Whitespace", 1},
                                                                 {"WhitespaceSplit", 1}};
  const auto found = table.find(kind);
  if (found == table.end()) refuse_kind(kind);
  return found->second;
}

int64_t times(int64_t a, int64_t b) { return a == 0 || b == 0 ? 0 : a > kMost / b ? kMost : a * b; }
int64_t length(const Json& text) { return static_cast<int64_t>(read_text(text).size()); }

const Json& capped(const Json& parts) {
  if (static_cast<int64_t>(parts.size()) > kMaxAdded) {
    throw std::invalid_argument("a sequence has " + std::to_string(parts.size()) +
                                " parts; allowed are " + std::to_string(kMaxAdded));
  }
  return parts;
}

// Of a map of SentencePiece: characters of the longest text in it.
int64_t longest(const Json& map) {
  if (map.is_null()) return 1;
  const std::string base64 = map;
  return std::max<int64_t>(1, longest_of_charsmap(base64));
}

int64_t replaced(const Json& rule) {
  const Json& pattern = rule.at("pattern");
  const int64_t content = length(rule.at("content"));
  const auto text = pattern.find("String");
  const int64_t of = text == pattern.end() ? 0 : length(*text);
  return of == 0 ? 1 + content : std::max<int64_t>(1, (content + of - 1) / of);
}

int64_t of_rule(const Json& document, const char* key, const char* parts) {
  const auto found = document.find(key);
  if (found == document.end() || found->is_null()) return 1;
  const std::string kind = found->at("type");
  if (kind == "Sequence") {
    int64_t grown = 1;
    for (const Json& part : capped(found->at(parts)))
      grown = times(grown, of_rule({{"rule", part}}, "rule", parts));
    return grown;
  }
  if (kind == "Replace") return replaced(*found);
  if (kind == "Prepend") return 1 + length(found->at("prepend"));
  if (kind == "Precompiled") return longest(found->at("precompiled_charsmap"));
  return usual(kind);
}

struct Around {
  int64_t copies, added;
};

Around of_template(const Json& rule) {
  int64_t named = 0, added = 0;
  for (const Json& part : rule.at("single")) {
    const auto special = part.find("SpecialToken");
    if (special == part.end()) continue;
    ++named;
    added += rule.at("special_tokens").at(special->at("id").get<std::string>()).at("ids").size();
    if (added > kMost) throw std::invalid_argument("it adds tokens without end");
  }
  return {std::max<int64_t>(1, static_cast<int64_t>(rule.at("single").size()) - named), added};
}

// How often the text itself comes in what is made of its tokens, and how many tokens are added.
Around around(const Json& rule) {
  if (rule.is_null()) return {1, 0};
  const std::string kind = rule.at("type");
  if (kind == "ByteLevel") return {1, 0};
  if (kind == "RobertaProcessing" || kind == "BertProcessing") return {1, 4};
  if (kind == "TemplateProcessing") return of_template(rule);
  if (kind != "Sequence") refuse_kind(kind);
  Around all{1, 0};
  for (const Json& part : capped(rule.at("processors"))) {
    const Around made = around(part);
    all = {times(all.copies, made.copies), std::min(kMost, all.added + made.added)};
  }
  return {all.copies, times(all.copies, all.added)};
}

std::string count(int64_t number) {
  return number < 1000000000 ? std::to_string(number) : "more than 10^9";
}

}  // namespace

int64_t growth(const std::string& name, const Json& document) {
  int64_t grown = times(of_rule(document, "normalizer", "normalizers"),
                        of_rule(document, "pre_tokenizer", "pretokenizers"));
  const auto post = document.find("post_processor");
  const Around made = around(post == document.end() ? Json() : *post);
  int64_t own = 0;
  const auto tokens = document.find("added_tokens");
  if (tokens != document.end() && !tokens->is_null()) {
    for (const Json& token : *tokens) own += length(token.at("content"));
  }
  grown = times(grown, made.copies);
  if (grown > kMaxGrowth || made.added > kMaxAdded || times(own, grown) > kMaxText) {
    throw Error(Fault::bundle,
                name + ": its rules can make " + count(grown) + " characters of one and add " +
                    count(made.added) + " tokens, and its own words have " + std::to_string(own) +
                    "; allowed are 1024, 64, and 4000000 for what becomes of the words");
  }
  return grown;
}

}  // namespace flagdit::text
