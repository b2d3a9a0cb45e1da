#include "flagdit/texts.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "../printable.h"
#include "flagdit/error.h"

namespace flagdit {

namespace {

constexpr int64_t kLongestName = 10000;  // characters

// Features that are given: of each picture, and for the other branch the same of all.
Texts given(const Request& request, int64_t branches) {
  Texts texts;
  const size_t count = request.embeds.size();
  for (size_t i = 0; i < count; ++i) {
    texts.rows.push_back(i);
    texts.all.push_back({{}, "embeds of picture " + std::to_string(i + 1), request.embeds[i]});
  }
  if (branches == 1) return texts;
  texts.rows.insert(texts.rows.end(), count, count);
  texts.all.push_back({{}, "negative_embeds", request.negative_embeds});
  return texts;
}

}  // namespace

void check_texts(const Request& request, const Prompts& prompts) {
  if (!request.embeds.empty()) {  // prompts are names then, that reports have
    for (const std::string& prompt : request.prompts)
      if (!prompt.empty()) check_prompt(prompt, "prompt", kLongestName);
    return;
  }
  if (prompts.readers().empty())
    throw Error(Fault::backend,
                "the bundle has no text encoder; export the model with --text-encoder, or give "
                "embeds in Python");
  for (const std::string& prompt : request.prompts) prompts.check(prompt, Branch::conditional);
  if (!request.negative.empty())
    prompts.check(request.negative, Branch::unconditional, "negative prompt");
}

Texts texts_of(const Request& request, int64_t branches, const Prompts& prompts) {
  if (!request.embeds.empty()) return given(request, branches);
  const Branch other = prompts.alike() ? Branch::conditional : Branch::unconditional;
  std::vector<std::pair<std::string, Branch>> rows, all;
  for (const std::string& prompt : request.prompts) rows.emplace_back(prompt, Branch::conditional);
  if (branches == 2) rows.insert(rows.end(), request.prompts.size(), {request.negative, other});
  Texts texts;
  for (const auto& row : rows) {
    const auto known = std::find(all.begin(), all.end(), row);
    texts.rows.push_back(static_cast<size_t>(known - all.begin()));
    if (known != all.end()) continue;
    all.push_back(row);
    texts.all.push_back(
        {prompts.tokens(row.first, row.second), "the text " + in_quotes(row.first)});
  }
  return texts;
}

}  // namespace flagdit
