// A bundle's tokenizer.json: read as data, bounded, and only then built.
//
// Makes the ids that Hugging Face's `tokenizers` does: WordPiece, byte pairs (also of bytes),
// unigram, and the rules before them that text encoders come with. What it does not know is
// refused, never guessed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace flagdit {

class Tokenizer {
 public:
  // Of the content of the file `name`, in JSON. Throws Error(bundle) if it is no tokenizer, or one
  // without bounds.
  static Tokenizer read(const std::string& name, std::string_view content);

  // Token ids of a text in UTF-8, with the marks of its beginning and end. Throws Error(request) if
  // it is none, Error(bundle) if the tokenizer cannot read it.
  // most: tokens, at most: a longer text is cut before the marks of its end, which it keeps.
  std::vector<int64_t> encode(std::string_view utf8, int64_t most = INT64_MAX) const;

  const std::string& name() const;  // of its file

  // Characters of a text that may be given to it.
  int64_t longest() const;

 private:
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const Parts> parts_;
};

// How a text becomes the tokens that an encoder takes.
struct TextRules {
  int64_t max_tokens;                // that it takes
  std::string positive = "{}";       // what a prompt is put into, at {}
  std::string negative = "{}";       // what the text of the unconditional branch is put into
  std::optional<int64_t> padding{};  // the token that fills up to max_tokens; none does not
  bool truncate = false;             // a longer text is cut, rather than refused
};

// The branch of guidance that a text is of.
enum class Branch { conditional, unconditional };

// Which prompts a model takes: the tokenizers of its encoders say that, without the encoders.
class Prompts {
 public:
  struct Reader {
    Tokenizer tokenizer;
    TextRules rules;
  };

  // Of each encoder. Throws Error(bundle) if an empty text is too long for one, or makes no token.
  explicit Prompts(std::vector<Reader> readers);
  Prompts(Tokenizer tokenizer, TextRules rules)
      : Prompts(std::vector<Reader>{{std::move(tokenizer), std::move(rules)}}) {}

  // The token ids of a text for each encoder, the filling among them; an empty text is what
  // guidance leads away from. name: what it is called in messages. Throws Error(request) if it is
  // blank but not empty, no UTF-8, or too long for an encoder that does not cut it.
  std::vector<std::vector<int64_t>> tokens(const std::string& text, Branch branch,
                                           const std::string& name = "prompt") const;
  // Throws as `tokens` does, and if the text is empty.
  void check(const std::string& text, Branch branch, const std::string& name = "prompt") const;

  const std::vector<Reader>& readers() const { return readers_; }
  // Whether both branches put a text into the same.
  bool alike() const;

 private:
  std::vector<Reader> readers_;
};

}  // namespace flagdit
