#include "flagdit/autoencoder.h"

#include <algorithm>
#include <string>
#include <utility>

#include "flagdit/conditions.h"
#include "flagdit/error.h"
#include "flagdit/price.h"

namespace flagdit {
namespace {

// A part of one image: so many rows and columns from a place on.
Images part_of(const Images& from, int64_t sample, int64_t top, int64_t left, int64_t height,
               int64_t width) {
  Images out{1,
             from.channels,
             std::min(height, from.height - top),
             std::min(width, from.width - left),
             {}};
  out.values.reserve(static_cast<size_t>(out.channels * out.height * out.width));
  for (int64_t channel = 0; channel < from.channels; ++channel)
    for (int64_t y = 0; y < out.height; ++y) {
      const int64_t row = (sample * from.channels + channel) * from.height + top + y;
      const auto begin = from.values.begin() + row * from.width + left;
      out.values.insert(out.values.end(), begin, begin + out.width);
    }
  return out;
}

// Puts the first rows and columns of a part into an image, as many as fit.
void put(const Images& part, int64_t sample, int64_t top, int64_t left, int64_t limit,
         Images& into) {
  const int64_t height = std::min({part.height, limit, into.height - top});
  const int64_t width = std::min({part.width, limit, into.width - left});
  for (int64_t channel = 0; channel < part.channels; ++channel)
    for (int64_t y = 0; y < height; ++y) {
      const auto from = part.values.begin() + (channel * part.height + y) * part.width;
      const int64_t row = (sample * into.channels + channel) * into.height + top + y;
      std::copy(from, from + width, into.values.begin() + row * into.width + left);
    }
}

// The first rows, or columns, of a tile go over from the last ones of the tile before it.
void blend(const Images& before, Images& tile, int64_t extent, bool columns) {
  const int64_t own = columns ? tile.width : tile.height;
  const int64_t other = columns ? before.width : before.height;
  extent = std::min({extent, own, other});
  const int64_t height = columns ? std::min(tile.height, before.height) : extent;
  const int64_t width = columns ? extent : std::min(tile.width, before.width);
  for (int64_t channel = 0; channel < tile.channels; ++channel)
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x) {
        const int64_t shift_y = columns ? 0 : before.height - extent;
        const int64_t shift_x = columns ? before.width - extent : 0;
        const float share = static_cast<float>(columns ? x : y) / static_cast<float>(extent);
        const float old = before.values[static_cast<size_t>(
            (channel * before.height + y + shift_y) * before.width + x + shift_x)];
        float& value =
            tile.values[static_cast<size_t>((channel * tile.height + y) * tile.width + x)];
        value = old * (1.0f - share) + value * share;
      }
}

// One image through a graph of one input and one output.
Images run(Session& session, const Images& image, const std::string& what, int64_t channels,
           int64_t height, int64_t width) {
  std::string name;
  for (const Port& port : session.ports())
    if (!port.output) name = port.name;
  const Tensor in{const_cast<float*>(image.values.data()),
                  DType::f32,
                  {1, image.channels, image.height, image.width}};
  const std::vector<Bound> made = session.run({{name, in}});
  const Shape wanted{1, channels, height, width};
  if (made.size() != 1 || !(made[0].tensor.shape == wanted) || made[0].tensor.dtype != DType::f32) {
    throw Error(Fault::bundle, session.name + ": gives " +
                                   (made.empty() ? "nothing" : to_string(made[0].tensor.shape)) +
                                   "; allowed is float32 " + to_string(wanted) +
                                   "; export the model again");
  }
  check_numbers(made[0].tensor, what, "after the last step", session.name, session.precision);
  const auto* values = made[0].tensor.as<float>();
  return {1, channels, height, width, {values, values + channels * height * width}};
}

// Scores of the attention over latents of 8 pixels, and their softmax.
double scores_bytes(double pixels) { return 8 * (pixels / 64) * (pixels / 64); }

Images decode_part(Session& session, const Images& latents, int64_t downscale) {
  return run(session, latents, "the picture", 3, latents.height * downscale,
             latents.width * downscale);
}

void decode_tiles(Session& session, const Images& latents, int64_t sample, int64_t downscale,
                  int64_t tile, Images& out) {
  const int64_t side = tile / downscale, pitch = side / 4 * 3, extent = tile / 4;
  std::vector<Images> above, row;
  for (int64_t top = 0; top < latents.height; top += pitch) {
    row.clear();
    for (int64_t left = 0; left < latents.width; left += pitch) {
      row.push_back(
          decode_part(session, part_of(latents, sample, top, left, side, side), downscale));
      if (top > 0) blend(above[row.size() - 1], row.back(), extent, false);
      if (left > 0) blend(row[row.size() - 2], row.back(), extent, true);
      put(row.back(), sample, top * downscale, left * downscale, pitch * downscale, out);
    }
    std::swap(above, row);
  }
}

}  // namespace

int64_t decode_bytes(int64_t width, int64_t height) {
  // At the full size, in fp32: a map of 256 channels, its normal form and what a convolution makes
  // of it, and two of 128.
  const double pixels = static_cast<double>(width) * static_cast<double>(height);
  return capped(4 * pixels * (3 * 256 + 2 * 128) + scores_bytes(pixels));
}

int64_t encode_bytes(int64_t width, int64_t height) {
  // A map of 128 channels, its normal form and what a convolution makes of it.
  const double pixels = static_cast<double>(width) * static_cast<double>(height);
  return capped(4 * pixels * (3 * 128) + scores_bytes(pixels));
}

int64_t tile_of(int64_t width, int64_t height, int64_t most) {
  const bool large = width > kTile || height > kTile;
  return large && decode_bytes(width, height) > most ? kTile : 0;
}

void check_tile(int64_t tile, int64_t downscale) {
  const int64_t step = 4 * downscale;
  if (tile == 0 || (downscale > 1 && tile > 0 && tile % step == 0)) return;
  throw Error(
      Fault::request,
      "tile is " + std::to_string(tile) +
          (downscale > 1 ? "; allowed are multiples of " + std::to_string(step) +
                               " pixels, and 0 for the whole at once"
                         : "; this model ends in pixels, which nothing decodes: leave it out"));
}

Images decode(Session& session, const Images& latents, int64_t downscale, int64_t tile) {
  check_tile(tile, downscale);
  Images out{latents.samples, 3, latents.height * downscale, latents.width * downscale, {}};
  out.values.resize(static_cast<size_t>(out.samples * 3 * out.height * out.width));
  const bool whole = tile == 0 || (out.height <= tile && out.width <= tile);
  for (int64_t sample = 0; sample < latents.samples; ++sample) {
    if (whole) {
      const Images own = part_of(latents, sample, 0, 0, latents.height, latents.width);
      put(decode_part(session, own, downscale), sample, 0, 0, std::max(out.height, out.width), out);
    } else {
      decode_tiles(session, latents, sample, downscale, tile, out);
    }
  }
  return out;
}

Images encode(Session& session, const Images& pictures, int64_t downscale) {
  Images out{pictures.samples, 0, pictures.height / downscale, pictures.width / downscale, {}};
  for (const Port& port : session.ports()) {
    const auto* channels =
        port.output && port.axes.size() == 4 ? std::get_if<int64_t>(&port.axes[1]) : nullptr;
    if (channels != nullptr) out.channels = *channels;
  }
  for (int64_t sample = 0; sample < pictures.samples; ++sample) {
    const Images own = part_of(pictures, sample, 0, 0, pictures.height, pictures.width);
    const Images made =
        run(session, own, "the given picture's latent", out.channels, out.height, out.width);
    out.values.insert(out.values.end(), made.values.begin(), made.values.end());
  }
  return out;
}

}  // namespace flagdit
