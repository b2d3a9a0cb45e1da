// Words from the longest beginnings that a vocabulary has (BERT), or whole.
#include <algorithm>
#include <memory>
#include <stdexcept>

#include "../printable.h"
#include "rules.h"
#include "unicode.h"
#include "vocabulary.h"

namespace flagdit::text {
namespace {

int64_t unknown_of(const Vocabulary& words, const std::string& name) {
  const int64_t id = words.id(name);
  if (id < 0) throw std::runtime_error("its word for what is unknown is not in its vocabulary");
  return id;
}

class WordPiece : public Model {
 public:
  explicit WordPiece(const Json& model)
      : words_(model.at("vocab")),
        unknown_(model.at("unk_token").get<std::string>()),
        prefix_(model.at("continuing_subword_prefix").get<std::string>()),
        most_(model.at("max_input_chars_per_word").get<uint64_t>()) {
    words_.sort();
  }

  int64_t id(std::string_view token) const override { return words_.id(token); }
  int64_t size() const override { return words_.size(); }

  void append(std::string_view piece, std::vector<int64_t>& ids) const override {
    const size_t before = ids.size();
    bool known = decode(piece).size() <= most_;
    for (size_t begin = 0; known && begin < piece.size();) {
      const size_t size = longest(piece.substr(begin), begin == 0 ? "" : prefix_, ids);
      known = size != 0;
      begin += size;
    }
    if (!known) {
      ids.resize(before);
      ids.push_back(unknown_of(words_, unknown_));
    }
  }

 private:
  // Bytes of the longest word that a text begins with, whose id is put behind the others; 0: none.
  size_t longest(std::string_view rest, const std::string& prefix,
                 std::vector<int64_t>& ids) const {
    Vocabulary::Prefix found = words_.begin();
    for (const char byte : prefix) {
      if (!found.read(byte)) return 0;
    }
    size_t size = 0;
    int64_t id = -1;
    for (size_t end = 1; end <= rest.size() && found.read(rest[end - 1]); ++end) {
      const bool inside =
          end < rest.size() && (static_cast<unsigned char>(rest[end]) & 0xC0) == 0x80;
      if (inside || found.id() < 0) continue;
      size = end;
      id = found.id();
    }
    if (size != 0) ids.push_back(id);
    return size;
  }

  Vocabulary words_;
  const std::string unknown_, prefix_;
  const uint64_t most_;
};

class WordLevel : public Model {
 public:
  explicit WordLevel(const Json& model)
      : words_(model.at("vocab")), unknown_(model.at("unk_token").get<std::string>()) {}

  int64_t id(std::string_view token) const override { return words_.id(token); }
  int64_t size() const override { return words_.size(); }

  void append(std::string_view piece, std::vector<int64_t>& ids) const override {
    const int64_t id = words_.id(piece);
    ids.push_back(id < 0 ? unknown_of(words_, unknown_) : id);
  }

 private:
  const Vocabulary words_;
  const std::string unknown_;
};

}  // namespace

std::unique_ptr<Model> read_word_piece(const Json& model) {
  return std::make_unique<WordPiece>(model);
}
std::unique_ptr<Model> read_word_level(const Json& model) {
  return std::make_unique<WordLevel>(model);
}

std::unique_ptr<Model> read_model(const Json& model) {
  const std::string kind = model.at("type");
  if (kind == "WordPiece") return read_word_piece(model);
  if (kind == "WordLevel") return read_word_level(model);
  if (kind == "BPE") return read_pairs(model);
  if (kind == "Unigram") return read_unigram(model);
  throw std::invalid_argument("a model of the kind " + in_quotes(kind) + " is not known");
}

}  // namespace flagdit::text
