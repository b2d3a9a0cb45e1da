// The texts of a request, as tokens.
#pragma once

#include "flagdit/conditions.h"
#include "flagdit/request.h"
#include "flagdit/tokenizer.h"

namespace flagdit {

// Throws Error(request) if a prompt is none or too long.
void check_texts(const Request& request, const Prompts& prompts);

// A row for each picture of each branch of guidance, the conditional ones first; each different text
// once. Throws as `check_texts` does.
Texts texts_of(const Request& request, int64_t branches, const Prompts& prompts);

}  // namespace flagdit
