#include "flagdit/tokenizer.h"

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <utility>

#include "../json.h"
#include "../printable.h"
#include "added.h"
#include "flagdit/error.h"
#include "rules.h"
#include "unicode.h"

namespace flagdit {
namespace {

constexpr size_t kMaxBytes = size_t{64}
                             << 20;  // of the file: vocabularies of 250000 words take 17 MB

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
    return Tokenizer(std::make_shared<const Parts>(name, document));
  } catch (const Error&) {
    throw;
  } catch (const Json::exception& error) {
    blame(name, "is no tokenizer", reason(error));
  } catch (const std::exception& error) {
    blame(name, "is no tokenizer", error.what());
  }
}

std::vector<int64_t> Tokenizer::encode(std::string_view utf8, int64_t most) const {
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
    std::vector<int64_t> whole = parts_->finish(ids);
    const auto count = static_cast<int64_t>(whole.size()), own = static_cast<int64_t>(ids.size());
    if (count <= most) return whole;
    ids.resize(static_cast<size_t>(std::max<int64_t>(own - (count - most), 0)));
    return parts_->finish(std::move(ids));
  } catch (const std::exception& error) {
    blame(parts_->name, "cannot read a prompt", error.what());
  }
}

const std::string& Tokenizer::name() const { return parts_->name; }

int64_t Tokenizer::longest() const { return text::kMaxText / parts_->growth; }

}  // namespace flagdit
