#include "flagdit/tokenizer.h"

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <utility>

#include "../json.h"
#include "../printable.h"
#include "added.h"
#include "flagdit/error.h"
#include "flagdit/request.h"
#include "rules.h"
#include "unicode.h"

namespace flagdit {
namespace {

constexpr size_t kMaxBytes = size_t{64}
                             << 20;  // of the file: vocabularies of 250000 words take 17 MB
constexpr int64_t kCharacters = 16;  // of a token, at most

Json part(const Json& document, const char* name) {
  const auto found = document.find(name);
  return found == document.end() ? Json() : *found;
}

[[noreturn]] void blame(const std::string& name, const char* what, const std::string& why) {
  throw Error(Fault::bundle, name + ": " + what + " (" + shortened(why) + ")");
}

}  // namespace

struct Tokenizer::Parts {
  Parts(const std::string& name, const Json& document)
      : name(name),
        growth(text::growth(name, document)),
        normalize(text::read_normalizer(part(document, "normalizer"))),
        cut(text::read_pre_tokenizer(part(document, "pre_tokenizer"))),
        model(text::read_model(document.at("model"))),
        finish(text::read_post_processor(part(document, "post_processor"))),
        added(document, *model, normalize) {}

  const std::string name;
  const int64_t growth;
  const text::Rewrite normalize;
  const text::Cut cut;
  const std::unique_ptr<text::Model> model;
  const text::Finish finish;
  const text::Added added;
};

Tokenizer Tokenizer::read(const std::string& name, std::string_view content) {
  if (content.size() > kMaxBytes) {
    throw Error(Fault::bundle, name + ": " + std::to_string(content.size()) +
                                   " bytes; allowed are " + std::to_string(kMaxBytes));
  }
  const Json document = parse_json(name, content);
  try {
    Tokenizer tokenizer(std::make_shared<const Parts>(name, document));
    if (tokenizer.encode("").empty()) {
      throw Error(
          Fault::bundle,
          name +
              ": makes no token of an empty text, and guidance needs one; export the model again");
    }
    return tokenizer;
  } catch (const Error&) {
    throw;
  } catch (const Json::exception& error) {
    blame(name, "is no tokenizer", reason(error));
  } catch (const std::exception& error) {
    blame(name, "is no tokenizer", error.what());
  }
}

std::vector<int64_t> Tokenizer::encode(std::string_view utf8) const {
  std::u32string text;
  try {
    text = text::decode(utf8);
  } catch (const std::invalid_argument&) {
    throw Error(Fault::request, "the text is no Unicode text; write it in UTF-8");
  }
  try {
    std::vector<int64_t> ids;
    for (const text::Piece& piece : parts_->added.pieces(text, parts_->normalize)) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
        continue;
      }
      for (const text::Piece& word : parts_->cut(piece)) {
        if (!word.text.empty()) parts_->model->append(text::encode(word.text), ids);
      }
    }
    return parts_->finish(std::move(ids));
  } catch (const std::exception& error) {
    blame(parts_->name, "cannot read a prompt", error.what());
  }
}

int64_t Tokenizer::longest() const { return text::kMaxText / parts_->growth; }

Prompts::Prompts(Tokenizer tokenizer, int64_t max_tokens)
    : tokenizer_(std::move(tokenizer)), max_tokens_(max_tokens) {
  const size_t count = tokenizer_.encode("").size();
  if (static_cast<int64_t>(count) > max_tokens) {
    throw Error(Fault::bundle, "the tokenizer makes " + std::to_string(count) +
                                   " tokens of an empty text; the model takes " +
                                   std::to_string(max_tokens));
  }
}

std::vector<int64_t> Prompts::read(const std::string& prompt, const std::string& name) const {
  check_prompt(prompt, name, std::min(kCharacters * max_tokens_ + 1000, tokenizer_.longest()));
  std::vector<int64_t> ids = tokenizer_.encode(prompt);
  check_tokens(name, static_cast<int64_t>(ids.size()), max_tokens_);
  return ids;
}

}  // namespace flagdit
