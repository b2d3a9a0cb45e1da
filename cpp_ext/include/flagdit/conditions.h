// What `denoise` needs besides the tokens: from the text and the times, made once a run by the
// graphs `text` and `condition`; from the places of the tokens, once a size by the graph `place`.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "flagdit/layout.h"
#include "flagdit/sampler.h"
#include "flagdit/session.h"

namespace flagdit {

// A text as its tokens for each encoder, and what messages call it; or the features that encoders
// would make of it, as in Features.
struct Text {
  std::vector<std::vector<int64_t>> ids;
  std::string label;
  std::vector<Bound> features{};
};

// The texts of a run: each different one once, and which of them each of R rows has.
struct Texts {
  std::vector<Text> all;
  std::vector<size_t> rows;
};

struct Features {
  // Of each different text what the encoders make, by name: (1, T, Y), or (1, Y) of all of it.
  std::vector<std::vector<Bound>> texts;
  int64_t longest = 0;  // T of the longest
};

// Options of `place`, which takes those that it has an input for.
struct Placing {
  double ntk = 1.0;           // factor on theta of RoPE
  bool proportional = false;  // softmax that sharpens with the number of tokens (Lumina-T2X)
  int64_t phase = 0;          // of the model's phases
};

// Features of each text. Each goes through an encoder alone, so they do not depend on its
// neighbours. Throws Error(number) if they are no numbers.
Features encode(const std::vector<std::shared_ptr<Session>>& encoders,
                const std::vector<Text>& texts);

// Rows of a branch that skips layers, behind all others: of the texts of the first rows.
struct SkippingRows {
  std::vector<int64_t> layers{};
  size_t count = 0;
};

// What `condition` makes at times (S,), a row for each of R texts, in the types that `denoise`
// takes. Each text goes through it alone and at its own length: sums depend on padding, batch and
// threads. Shorter ones are filled up with `pads`, by the name of an output, or zeros.
std::vector<Bound> conditions(Session& condition, const Session& denoise,
                              const std::vector<float>& times, const Texts& texts,
                              const Features& features, const std::map<std::string, float>& pads,
                              const SkippingRows& skipping = {});

// What `place` gives for a layout. Throws Error(request) if an option has no input.
std::vector<Bound> placed(Session& place, const Layout& layout, const Placing& options);

// Throws Error(number) if values are not finite. what: they are, when: at what point of the run.
void check_numbers(const Tensor& values, const std::string& what, const std::string& when,
                   const std::string& engine, const std::string& precision);
// What it throws; broken: values that are not finite, of: such as " of 48".
[[noreturn]] void refuse_numbers(int64_t broken, const std::string& of, const std::string& what,
                                 const std::string& when, const std::string& engine,
                                 const std::string& precision);

}  // namespace flagdit
