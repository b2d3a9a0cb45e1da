// A bundle's tokenizer.json: read as data, bounded, and only then built.
//
// Makes the ids that Hugging Face's `tokenizers` does: WordPiece, byte pairs (also of bytes),
// unigram, and the rules before them that text encoders come with. What it does not know is
// refused, never guessed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace flagdit {

class Tokenizer {
 public:
  // Of the content of the file `name`, in JSON. Throws Error(bundle) if it is no tokenizer, one
  // without bounds, or one that makes no token of an empty text.
  static Tokenizer read(const std::string& name, std::string_view content);

  // Token ids of a text in UTF-8, with the marks of its beginning and end. Throws Error(request) if
  // it is none, Error(bundle) if the tokenizer cannot read it.
  std::vector<int64_t> encode(std::string_view utf8) const;

  // Characters of a text that may be given to it.
  int64_t longest() const;

 private:
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const Parts> parts_;
};

// Which prompts a model takes: its tokenizer says that, without the encoder.
class Prompts {
 public:
  // max_tokens: that the encoder takes. Throws Error(bundle) if an empty text has more.
  Prompts(Tokenizer tokenizer, int64_t max_tokens);

  // The token ids of a prompt; name: what it is called in messages. Throws Error(request) unless
  // there is one, it is UTF-8, and it is short enough.
  std::vector<int64_t> read(const std::string& prompt, const std::string& name = "prompt") const;

  // Of an empty text, which guidance leads away from.
  std::vector<int64_t> none() const { return tokenizer_.encode(""); }

 private:
  Tokenizer tokenizer_;
  int64_t max_tokens_;
};

}  // namespace flagdit
