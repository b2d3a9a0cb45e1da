#include "flagdit/texts.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "../printable.h"

namespace flagdit {

void check_texts(const Request& request, const Prompts& prompts) {
  for (const std::string& prompt : request.prompts) prompts.check(prompt, Branch::conditional);
  if (!request.negative.empty())
    prompts.check(request.negative, Branch::unconditional, "negative prompt");
}

Texts texts_of(const Request& request, int64_t branches, const Prompts& prompts) {
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
