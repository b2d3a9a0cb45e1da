// The rules of a tokenizer.json: each is read once, and is a function afterwards.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../json.h"
#include "pattern.h"

namespace flagdit::text {

// A part of a text on its way to tokens.
struct Piece {
  std::u32string text;
  bool first = false;  // begins where the text does
  int64_t id = -1;     // of the token that it is, where that is known by now
};

using Rewrite = std::function<void(std::u32string&)>;
using Cut = std::function<std::vector<Piece>(const Piece&)>;
using Finish = std::function<std::vector<int64_t>(std::vector<int64_t>)>;

class Model {
 public:
  virtual ~Model() = default;
  virtual int64_t id(std::string_view token) const = 0;  // -1: it has none
  virtual int64_t size() const = 0;
  // The tokens of a piece, in UTF-8, behind those that are there.
  virtual void append(std::string_view piece, std::vector<int64_t>& ids) const = 0;
};

// Each throws std::invalid_argument, Json::exception, or Error for what is no such rule.
Rewrite read_normalizer(const Json& rule);
Rewrite read_charsmap(const std::string& base64);
int64_t longest_of_charsmap(const std::string& base64);  // characters that it makes of one
Cut read_pre_tokenizer(const Json& rule);
Finish read_post_processor(const Json& rule);
std::unique_ptr<Model> read_model(const Json& model);
std::unique_ptr<Model> read_word_piece(const Json& model);
std::unique_ptr<Model> read_word_level(const Json& model);
std::unique_ptr<Model> read_pairs(const Json& model);
std::unique_ptr<Model> read_unigram(const Json& model);

Pattern read_pattern(const Json& rule);
std::u32string read_text(const Json& value);

// Bytes as characters that can be seen, as byte-level vocabularies have them.
std::u32string visible_bytes(const std::u32string& text);

[[noreturn]] void refuse_kind(const std::string& kind);

// Characters that the rules of a document make of one, at most. Throws Error(bundle) out of bounds.
int64_t growth(const std::string& name, const Json& document);

inline constexpr int64_t kMaxText = 4000000;  // characters that the rules may make of a prompt

}  // namespace flagdit::text
