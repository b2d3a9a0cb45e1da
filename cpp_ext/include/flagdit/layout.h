// The tokens of a picture, a video or a spectrogram: where they are, which carry no latent, and how
// patches become latents again. Data of a model, not code of a family.
#pragma once

#include <cstdint>
#include <vector>

namespace flagdit {

// Latents are (B, C, F, H, W) in frames, height and width, cut into patches whose values are
// ordered (channel, frame, height, width). The sequence goes frame by frame, line by line; after a
// line, or a frame, there may be a token that carries no latent ([nextline], [nextframe]), and after
// the last one as many as make their number a multiple. A token's id is its place in the sequence.
struct Layout {
  int64_t frames = 1, height = 0, width = 0;  // of the latents
  int64_t channels = 0;
  int64_t patch_frames = 1, patch_height = 1, patch_width = 1;
  bool closes_lines = false, closes_frames = false;
  int64_t multiple = 1;  // of the number of tokens

  int64_t depth() const { return frames / patch_frames; }  // frames of patches
  int64_t lines() const { return height / patch_height; }  // of one frame
  int64_t columns() const { return width / patch_width; }
  int64_t patches() const { return depth() * lines() * columns(); }
  // Tokens without a latent: computed in every step.
  int64_t pinned() const { return closing() + filling(); }
  int64_t tokens() const { return patches() + pinned(); }
  int64_t patch_values() const { return channels * patch_frames * patch_height * patch_width; }
  int64_t values() const { return channels * frames * height * width; }  // of one sample
  // Tokens in a line, those without a latent among them.
  int64_t stride() const { return columns() + (closes_lines ? 1 : 0); }
  bool operator==(const Layout& other) const;

  int64_t closing() const {  // tokens at the end of lines and frames
    return depth() * ((closes_lines ? lines() : 0) + (closes_frames ? 1 : 0));
  }
  int64_t filling() const {  // those behind the last patch, which have no place
    return (multiple - (patches() + closing()) % multiple) % multiple;
  }

  // (N,) token ids in the first slot order: tokens without a latent, then the patches in order.
  std::vector<int32_t> slots() const;
  // (N, 4) of each token: index in the sequence, frame, line and column in patches; -1 for what a
  // token without a latent has none of.
  std::vector<int64_t> places() const;
  // Number of a patch, frame by frame and line by line; -1 for a token without a latent.
  int64_t patch_of(int32_t token) const;

  // latents (B, C, F, H, W) -> patches (patches, B, P), and back.
  void patchify(const float* latents, int64_t samples, float* patches) const;
  void unpatchify(const float* patches, int64_t samples, float* latents) const;
};

// What becomes of `layout` in a picture that is smaller by the factor in height and width.
Layout coarser(const Layout& layout, int64_t factor);

}  // namespace flagdit
