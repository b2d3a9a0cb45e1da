// What is asked for, checked before anything is loaded or allocated.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "flagdit/canvas.h"
#include "flagdit/fields.h"
#include "flagdit/model.h"
#include "flagdit/resolve.h"
#include "flagdit/session.h"
#include "flagdit/skip_layers.h"

namespace flagdit {

constexpr int64_t kMostPictures = 1024;  // at a time: memory allows fewer, in most cases

// One picture for each prompt, each from its own seed.
struct Request {
  std::vector<std::string> prompts;
  std::vector<uint64_t> seeds;
  std::string negative;              // of the unconditional branch, of all pictures
  std::optional<Size> size;          // by default the model's own
  std::optional<Number> guidance{};  // scale, by default the model's own; 1 is none
  std::optional<SkipLayerGuidance> skip_layer_guidance{};
  // For sizes that the model was not trained at: None, "auto" (the area over the training area, at
  // least 1) or a factor on theta of RoPE; and a softmax that sharpens with the number of tokens.
  Value ntk{};
  bool proportional = false;
  Options options{};  // how to sample
  // A picture to begin with, by default of its size, and how much of the way from noise is gone: 1 is
  // all, by default .6, and 1 with a mask.
  std::shared_ptr<const Canvas> canvas{};
  std::optional<Number> strength{};
  std::vector<float> noise{};          // (B, C, F, H, W) in place of the seeds'; empty: theirs
  std::vector<int64_t> noise_shape{};  // (B, C, H, W), as it was given; empty: not said
  std::optional<int64_t>
      tile{};  // pixels, as in autoencoder.h; 0: none, by default as memory allows
  // Features of each prompt, and of the negative one, in place of what encoders make of them:
  // (1, T, Y) or (1, Y) by name. Empty: theirs.
  std::vector<std::vector<Bound>> embeds{};
  std::vector<Bound> negative_embeds{};
};

// How a request is sampled by a model.
struct Sampling {
  Preset how;
  Number guidance;

  // Of guidance: at a scale of 1 the unconditional one has no part in the result.
  int64_t branches() const { return guidance == 1 ? 1 : 2; }
};

// Throws Error if options contradict each other.
Sampling sampling_of(const Request& request, const Model& model);

// Throws Error if there is no prompt, or another number of seeds, a guidance, a negative prompt or
// a factor that cannot be, or a coarse picture where none may be.
void check(const Request& request, const Sampling& sampling);

// A seed of 64 bits without a sign, from its digits. Throws Error for anything else.
uint64_t seed_of(const std::string& text);
[[noreturn]] void refuse_seed(const std::string& quoted);
// One from the system's randomness, below 2^32: short enough to be typed again.
uint64_t drawn_seed();

// Whether there is nothing but white space, of any script.
bool is_blank(const std::string& text);
// Throws Error for a prompt that is blank, no UTF-8, or longer than so many characters. name: what
// messages call it.
void check_prompt(const std::string& prompt, const std::string& name, int64_t longest);
// Throws Error for one of more tokens than a model takes.
void check_tokens(const std::string& name, int64_t count, int64_t most);

}  // namespace flagdit
