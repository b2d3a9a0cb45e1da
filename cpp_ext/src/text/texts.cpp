#include "flagdit/texts.h"

#include <algorithm>
#include <string>
#include <vector>

#include "../printable.h"

namespace flagdit {

void check_texts(const Request& request, const Prompts& prompts) {
  for (const std::string& prompt : request.prompts) prompts.read(prompt);
  if (!request.negative.empty()) prompts.read(request.negative, "negative prompt");
}

Texts texts_of(const Request& request, int64_t branches, const Prompts& prompts) {
  std::vector<std::string> rows = request.prompts, all;
  if (branches == 2) rows.insert(rows.end(), request.prompts.size(), request.negative);
  Texts texts;
  for (const std::string& text : rows) {
    const auto known = std::find(all.begin(), all.end(), text);
    texts.rows.push_back(static_cast<size_t>(known - all.begin()));
    if (known != all.end()) continue;
    all.push_back(text);
    texts.all.push_back(
        {text.empty() ? prompts.none() : prompts.read(text), "the text " + in_quotes(text)});
  }
  return texts;
}

}  // namespace flagdit
