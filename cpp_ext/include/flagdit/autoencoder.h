// Pictures of latents and latents of pictures, by the graphs `decode` and `encode` of a bundle.
#pragma once

#include <cstdint>
#include <vector>

#include "flagdit/session.h"

namespace flagdit {

// What a whole picture may take while it is decoded, before tiles are taken without being asked for.
constexpr int64_t kMostWhole = int64_t{8} << 30;
constexpr int64_t kTile = 512;  // pixels, where nothing else is said

// (samples, channels, height, width).
struct Images {
  int64_t samples = 0, channels = 0, height = 0, width = 0;
  std::vector<float> values;
};

// Bytes that a decoder takes of a picture that has so many pixels: as counted in the autoencoders of
// Stable Diffusion (widths of 128 to 512, one attention over all latents), not measured.
int64_t decode_bytes(int64_t width, int64_t height);
// The same of an encoder, which always takes the whole picture at once.
int64_t encode_bytes(int64_t width, int64_t height);

// Pixels of tiles that a picture is decoded in: 0, all at once, unless it takes more than `most`.
int64_t tile_of(int64_t width, int64_t height, int64_t most);
// Throws Error(request) for tiles of a side that cannot be: 0, or a multiple of four latents, of two
// at least.
void check_tile(int64_t tile, int64_t downscale);

// Pictures (B, 3, Y, X) in [-1, 1] of latents (B, C, H, W). Each goes through the graph alone, so it
// is the same in any batch. tile: pixels of the side of the squares that are decoded one by one, a
// quarter of which lies over the one before and goes over into it in a line (diffusers'
// AutoencoderKL.tiled_decode); 0 is the whole at once. Throws Error(number) if they are no numbers,
// Error(bundle) if the graph gives something else.
Images decode(Session& decode, const Images& latents, int64_t downscale, int64_t tile = 0);
// Latents (B, C, H, W) of pictures (B, 3, Y, X), each alone.
Images encode(Session& encode, const Images& pictures, int64_t downscale);

}  // namespace flagdit
