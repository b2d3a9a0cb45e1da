#include <algorithm>
#include <utility>

#include "flagdit/checked.h"
#include "flagdit/conditions.h"
#include "flagdit/in_turn.h"
#include "outputs.h"

namespace flagdit {
namespace {

// What an encoder makes of the tokens of a text: of each of them, or of all.
std::vector<Bound> encode_one(Session& encoder, const std::vector<int64_t>& tokens,
                              const std::string& label) {
  const auto length = static_cast<int64_t>(tokens.size());
  const Bound ids = made("input_ids", DType::i64, {1, length});
  std::copy(tokens.begin(), tokens.end(), ids.tensor.as<int64_t>());
  const Bound mask = made("attention_mask", DType::i64, {1, length});
  std::fill_n(mask.tensor.as<int64_t>(), length, 1);
  std::vector<Bound> given = encoder.run({ids, mask});
  for (const Bound& features : given) {
    const Shape& shape = features.tensor.shape;
    const bool one = shape.rank > 1 && shape[0] == 1;
    if (features.tensor.dtype != DType::f32 || !one ||
        !(shape.rank == 2 || (shape.rank == 3 && shape[1] == length)))
      refuse_output(encoder.name, features,
                    "float32 (1, " + std::to_string(length) + ", ...) or (1, ...)");
    check_numbers(features.tensor, label, kBefore, "text_encoder on " + encoder.backend, "float32");
  }
  return given;
}

// Lets go of an encoder that is loaded in turn, also where it fails: the next one, and what comes
// after the last, has its memory.
struct Rest {
  InTurn* encoder;
  ~Rest() {
    if (encoder != nullptr) encoder->rest();
  }
};

// Features that are given, in place of what encoders make.
void take(const Text& text, std::vector<Bound>& into, int64_t& longest) {
  for (const Bound& features : text.features) {
    check_numbers(features.tensor, text.label, kBefore, "what was given", "float32");
    if (features.tensor.shape.rank == 3) longest = std::max(longest, features.tensor.shape[1]);
    into.push_back(features);
  }
}

}  // namespace

Features encode(const std::vector<std::shared_ptr<Session>>& encoders,
                const std::vector<Text>& texts) {
  Features out;
  out.texts.resize(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    take(texts[i], out.texts[i], out.longest);
    if (texts[i].features.empty() && texts[i].ids.size() != encoders.size())
      refuse("Run: texts", "tokens for " + std::to_string(texts[i].ids.size()) + " encoders",
             std::to_string(encoders.size()));
  }
  for (size_t number = 0; number < encoders.size(); ++number) {
    const Rest after{dynamic_cast<InTurn*>(encoders[number].get())};
    for (size_t i = 0; i < texts.size(); ++i) {
      if (!texts[i].features.empty()) continue;
      const std::vector<int64_t>& ids = texts[i].ids[number];
      for (Bound& features : encode_one(*encoders[number], ids, texts[i].label))
        out.texts[i].push_back(std::move(features));
      out.longest = std::max(out.longest, static_cast<int64_t>(ids.size()));
    }
  }
  return out;
}

}  // namespace flagdit
