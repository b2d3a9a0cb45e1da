#include <algorithm>
#include <utility>

#include "flagdit/error.h"
#include "flagdit/request.h"
#include "flagdit/tokenizer.h"

namespace flagdit {
namespace {

constexpr int64_t kCharacters = 16;    // of a token, at most
constexpr int64_t kMostTokens = 4096;  // that a manifest may say of an encoder

const std::string& template_of(const TextRules& rules, Branch branch) {
  return branch == Branch::conditional ? rules.positive : rules.negative;
}

std::string put(const std::string& text, const std::string& into) {
  const size_t at = into.find("{}");
  return at == std::string::npos ? into : into.substr(0, at) + text + into.substr(at + 2);
}

std::vector<int64_t> encode(const Prompts::Reader& reader, const std::string& text, Branch branch) {
  const TextRules& rules = reader.rules;
  const std::string whole = put(text, template_of(rules, branch));
  std::vector<int64_t> ids =
      reader.tokenizer.encode(whole, rules.truncate ? rules.max_tokens : INT64_MAX);
  const auto most = static_cast<size_t>(rules.max_tokens);
  if (rules.padding && ids.size() < most) ids.resize(most, *rules.padding);
  return ids;
}

void check_empty(const Prompts::Reader& reader, Branch branch) {
  const std::string& name = reader.tokenizer.name();
  const auto count = static_cast<int64_t>(encode(reader, "", branch).size());
  if (count == 0)
    throw Error(Fault::bundle, name +
                                   ": makes no token of an empty text, and guidance needs one; "
                                   "export the model again");
  if (count > reader.rules.max_tokens)
    throw Error(Fault::bundle, "the tokenizer makes " + std::to_string(count) +
                                   " tokens of an empty text; the model takes " +
                                   std::to_string(reader.rules.max_tokens));
}

// That it may be given to the tokenizer.
void check_text(const Prompts::Reader& reader, const std::string& text, Branch branch,
                const std::string& name) {
  const TextRules& rules = reader.rules;
  const auto around = static_cast<int64_t>(template_of(rules, branch).size());
  const int64_t tokens = rules.truncate ? kMostTokens : rules.max_tokens;
  check_prompt(text, name,
               std::min(kCharacters * tokens + 1000, reader.tokenizer.longest() - around));
}

}  // namespace

Prompts::Prompts(std::vector<Reader> readers) : readers_(std::move(readers)) {
  for (const Reader& reader : readers_)
    for (const Branch branch : {Branch::conditional, Branch::unconditional})
      check_empty(reader, branch);
}

std::vector<std::vector<int64_t>> Prompts::tokens(const std::string& text, Branch branch,
                                                  const std::string& name) const {
  std::vector<std::vector<int64_t>> all;
  for (const Reader& reader : readers_) {
    if (!text.empty()) check_text(reader, text, branch, name);
    all.push_back(encode(reader, text, branch));
    check_tokens(name, static_cast<int64_t>(all.back().size()), reader.rules.max_tokens);
  }
  return all;
}

void Prompts::check(const std::string& text, Branch branch, const std::string& name) const {
  if (text.empty()) check_prompt(text, name, 1);  // which refuses it
  tokens(text, branch, name);
}

bool Prompts::alike() const {
  return std::all_of(readers_.begin(), readers_.end(), [](const Reader& reader) {
    return reader.rules.positive == reader.rules.negative;
  });
}

}  // namespace flagdit
