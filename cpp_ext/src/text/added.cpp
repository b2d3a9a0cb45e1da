#include "added.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <utility>

#include "unicode.h"

namespace flagdit::text {
namespace {

// The number that `tokenizers` gives a word, whatever the file says: the model's, or the next one.
int64_t number_of(const std::string& content, const Model& model,
                  const std::map<std::string, int64_t>& known, int64_t most) {
  const auto found = known.find(content);
  if (found != known.end()) return found->second;
  const int64_t own = model.id(content);
  if (own >= 0) return own;
  return most >= model.size() ? most + 1 : model.size();
}

}  // namespace

Added::Added(const Json& document, const Model& model, const Rewrite& normalize) {
  const auto tokens = document.find("added_tokens");
  if (tokens == document.end() || tokens->is_null()) return;
  std::map<std::string, int64_t> known;
  std::map<std::string, Word> words;
  std::vector<std::string> order;
  int64_t most = -1;
  for (const Json& token : *tokens) {
    const std::string content = token.at("content");
    if (content.empty()) continue;
    known[content] = number_of(content, model, known, most);
    most = std::max(most, known[content]);
    if (words.find(content) == words.end()) order.push_back(content);
    words[content] = {decode(content),         known[content],     token.at("special"),
                      token.at("single_word"), token.at("lstrip"), token.at("rstrip"),
                      token.at("normalized")};
  }
  for (const bool special : {true, false}) {
    for (const std::string& content : order) {
      Word word = words[content];
      if (word.special != special) continue;
      if (word.normalized) normalize(word.content);
      if (!word.content.empty()) (word.normalized ? normalized_ : raw_).push_back(word);
    }
  }
  // Of two that are alike the first one counts.
  const auto before = [](const Word& a, const Word& b) { return a.content < b.content; };
  std::stable_sort(raw_.begin(), raw_.end(), before);
  std::stable_sort(normalized_.begin(), normalized_.end(), before);
}

std::vector<Piece> Added::pieces(const std::u32string& text, const Rewrite& normalize) const {
  std::vector<Piece> found;
  for (Piece& piece : cut({text, true}, raw_)) {
    if (piece.id >= 0) {
      found.push_back(std::move(piece));
      continue;
    }
    normalize(piece.text);
    for (Piece& part : cut(piece, normalized_)) found.push_back(std::move(part));
  }
  return found;
}

// The longest word that stands there, found character by character.
const Added::Word* Added::at(std::u32string_view text, size_t begin,
                             const std::vector<Word>& words) {
  const Word *first = words.data(), *last = first + words.size(), *found = nullptr;
  for (size_t i = 0; first != last; ++i) {
    if (i > 0 && first->content.size() == i) found = first;
    if (begin + i == text.size()) break;
    const auto code = [i](const Word& word) {  // shorter words come first
      return word.content.size() > i ? static_cast<int64_t>(word.content[i]) : -1;
    };
    const int64_t wanted = text[begin + i];
    first =
        std::partition_point(first, last, [&](const Word& word) { return code(word) < wanted; });
    last =
        std::partition_point(first, last, [&](const Word& word) { return code(word) == wanted; });
  }
  return found;
}

std::vector<Piece> Added::cut(const Piece& piece, const std::vector<Word>& words) const {
  const std::u32string& text = piece.text;
  std::vector<Piece> found;
  size_t done = 0;
  const auto between = [&](size_t end) {
    if (end > done) found.push_back({text.substr(done, end - done), piece.first && done == 0});
  };
  for (size_t i = 0; i < text.size();) {
    const Word* word = at(text, i, words);
    if (word == nullptr) {
      ++i;
      continue;
    }
    size_t begin = i, end = i + word->content.size();
    i = end;  // a word that does not count covers its place all the same
    const bool joined =
        (begin > 0 && is_word(text[begin - 1])) || (end < text.size() && is_word(text[end]));
    if (word->single && joined) continue;
    while (word->left && begin > done && is_space(text[begin - 1])) --begin;
    while (word->right && end < text.size() && is_space(text[end])) ++end;
    begin = std::max(begin, done);
    between(begin);
    found.push_back({U"", false, word->id});
    done = end;
  }
  between(text.size());
  return found;
}

}  // namespace flagdit::text
