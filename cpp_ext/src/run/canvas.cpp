#include "flagdit/canvas.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "flagdit/error.h"

namespace flagdit {

std::vector<uint8_t> Canvas::known(const Layout& layout, int64_t downscale) const {
  if (mask.empty()) return {};
  const int64_t high = layout.patch_height * downscale, wide = layout.patch_width * downscale;
  std::vector<uint8_t> out(static_cast<size_t>(layout.patches()), 1);
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      if (mask[static_cast<size_t>(y * width + x)] != 0)
        out[static_cast<size_t>(y / high * layout.columns() + x / wide)] = 0;
  return out;
}

double Canvas::share(const Layout& layout, int64_t downscale) const {
  const std::vector<uint8_t> kept = known(layout, downscale);
  if (kept.empty()) return 1.0;
  const auto anew = std::count(kept.begin(), kept.end(), uint8_t{0});
  return static_cast<double>(anew) / static_cast<double>(kept.size());
}

void Canvas::keep(std::vector<float>& pictures) const {
  const auto plane = static_cast<size_t>(width * height);
  if (mask.empty()) return;
  for (size_t i = 0; i < pictures.size(); ++i)
    if (mask[i % plane] == 0) pictures[i] = image[i % (3 * plane)];
}

void check_mask(int64_t width, int64_t height, int64_t mask_width, int64_t mask_height) {
  if (width == mask_width && height == mask_height) return;
  throw Error(Fault::request, "the mask is " + std::to_string(mask_width) + "x" +
                                  std::to_string(mask_height) + " and the image " +
                                  std::to_string(width) + "x" + std::to_string(height) +
                                  "; give a mask of the image's size");
}

Canvas canvas_of(const uint8_t* image, const uint8_t* mask, int64_t width, int64_t height) {
  Canvas out{width, height, {}, {}};
  const auto plane = static_cast<size_t>(width * height);
  out.image.resize(3 * plane);
  for (size_t i = 0; i < plane; ++i)
    for (size_t channel = 0; channel < 3; ++channel)
      out.image[channel * plane + i] = static_cast<float>(image[3 * i + channel]) / 127.5f - 1.0f;
  if (mask == nullptr) return out;
  out.mask.resize(plane);
  for (size_t i = 0; i < plane; ++i) {
    // Luma of ITU-R 601 in whole numbers, as picture libraries make grey of colours.
    const uint8_t* rgb = mask + 3 * i;
    out.mask[i] = (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16 >= 128;
  }
  return out;
}

}  // namespace flagdit
