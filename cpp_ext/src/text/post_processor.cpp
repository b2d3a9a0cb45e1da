// What is put around the tokens of a text.
#include <stdexcept>
#include <utility>

#include "rules.h"

namespace flagdit::text {
namespace {

std::vector<int64_t> numbers(const Json& ids) {
  std::vector<int64_t> found;
  for (const Json& id : ids) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > UINT32_MAX)
      throw std::invalid_argument("a token has no number");
    found.push_back(id.get<int64_t>());
  }
  return found;
}

Finish read_template(const Json& rule) {
  std::vector<std::vector<int64_t>> parts;  // an empty one is the text
  for (const Json& part : rule.at("single")) {
    const auto special = part.find("SpecialToken");
    parts.emplace_back();
    if (special == part.end()) {
      part.at("Sequence");
    } else {
      parts.back() =
          numbers(rule.at("special_tokens").at(special->at("id").get<std::string>()).at("ids"));
      if (parts.back().empty()) throw std::invalid_argument("a token of a template is none");
    }
  }
  return [parts](const std::vector<int64_t>& ids) {
    std::vector<int64_t> made;
    for (const auto& part : parts) {
      const auto& source = part.empty() ? ids : part;
      made.insert(made.end(), source.begin(), source.end());
    }
    return made;
  };
}

Finish read_pair(const Json& rule) {  // BERT and RoBERTa: a token before and one behind
  const int64_t before = numbers(Json::array({rule.at("cls").at(1)}))[0],
                behind = numbers(Json::array({rule.at("sep").at(1)}))[0];
  return [=](std::vector<int64_t> ids) {
    ids.insert(ids.begin(), before);
    ids.push_back(behind);
    return ids;
  };
}

}  // namespace

Finish read_post_processor(const Json& rule) {
  const auto same = [](std::vector<int64_t> ids) { return ids; };
  if (rule.is_null()) return same;
  const std::string kind = rule.at("type");
  if (kind == "ByteLevel") return same;
  if (kind == "TemplateProcessing") return read_template(rule);
  if (kind == "BertProcessing" || kind == "RobertaProcessing") return read_pair(rule);
  if (kind != "Sequence") refuse_kind(kind);
  std::vector<Finish> parts;
  for (const Json& part : rule.at("processors")) parts.push_back(read_post_processor(part));
  return [parts](std::vector<int64_t> ids) {
    for (const Finish& part : parts) ids = part(std::move(ids));
    return ids;
  };
}

}  // namespace flagdit::text
