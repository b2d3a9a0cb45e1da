// Words that are tokens wherever they stand in a text, whatever the rules would make of it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rules.h"

namespace flagdit::text {

class Added {
 public:
  // Of the document of a tokenizer. Throws as read_model does.
  Added(const Json& document, const Model& model, const Rewrite& normalize);

  // A text in pieces: those words, and what is between them, normalized.
  std::vector<Piece> pieces(const std::u32string& text, const Rewrite& normalize) const;

 private:
  struct Word {
    std::u32string content;
    int64_t id;
    bool special, single, left, right, normalized;
  };

  std::vector<Piece> cut(const Piece& piece, const std::vector<Word>& words) const;
  static const Word* at(std::u32string_view text, size_t begin, const std::vector<Word>& words);

  std::vector<Word> raw_, normalized_;  // in order
};

}  // namespace flagdit::text
