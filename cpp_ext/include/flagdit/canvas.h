// A picture that a run begins with, and what of it stays.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "flagdit/layout.h"

namespace flagdit {

// Of all samples. In pixels, which may be several of a latent's.
struct Canvas {
  int64_t width = 0, height = 0;
  std::vector<float> image;   // (3, height, width) in [-1, 1]
  std::vector<uint8_t> mask;  // (height, width): 1 is painted anew; empty: all of it is

  // (patches,) of a layout whose latents have so many pixels a side: whether nothing of a patch is
  // painted anew. None without a mask.
  std::vector<uint8_t> known(const Layout& layout, int64_t downscale) const;
  // The share of the patches that is painted anew.
  double share(const Layout& layout, int64_t downscale) const;
  // Puts what stays into pictures (B, 3, height, width).
  void keep(std::vector<float>& pictures) const;
};

// From bytes (height, width, 3), and a mask of as many pixels, of which those are painted anew that
// are nearer to white than to black; null: all are.
Canvas canvas_of(const uint8_t* image, const uint8_t* mask, int64_t width, int64_t height);

// Throws Error(request) for a mask of another size.
void check_mask(int64_t width, int64_t height, int64_t mask_width, int64_t mask_height);

}  // namespace flagdit
