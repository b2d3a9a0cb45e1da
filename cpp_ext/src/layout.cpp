#include "flagdit/layout.h"

#include <algorithm>

namespace flagdit {
namespace {

// Calls visit(index, frame, line, column) for every
// token in order, with -1 for what it has none of.
template <typename Visit>
void each_token(const Layout& layout, const Visit& visit) {
  int64_t index = 0;
  for (int64_t frame = 0; frame < layout.depth(); ++frame) {
    for (int64_t line = 0; line < layout.lines(); ++line) {
      for (int64_t column = 0; column < layout.columns(); ++column)
        visit(index++, frame, line, column);
      if (layout.closes_lines) visit(index++, frame, line, -1);
    }
    if (layout.closes_frames) visit(index++, frame, -1, -1);
  }
  for (int64_t more = layout.filling(); more > 0; --more) visit(index++, -1, -1, -1);
}

// Where runs of values that lie together in both are: visit(latent offset, patch offset, length).
template <typename Visit>
void each_run(const Layout& l, int64_t samples, const Visit& visit) {
  const int64_t width = l.patch_width;
  int64_t patch = 0;  // offset
  for (int64_t frame = 0; frame < l.depth(); ++frame)
    for (int64_t line = 0; line < l.lines(); ++line)
      for (int64_t column = 0; column < l.columns(); ++column)
        for (int64_t sample = 0; sample < samples; ++sample)
          for (int64_t channel = 0; channel < l.channels; ++channel)
            for (int64_t f = 0; f < l.patch_frames; ++f)
              for (int64_t y = 0; y < l.patch_height; ++y, patch += width) {
                const int64_t plane = (sample * l.channels + channel) * l.frames;
                const int64_t top = (plane + frame * l.patch_frames + f) * l.height;
                visit((top + line * l.patch_height + y) * l.width + column * width, patch, width);
              }
}

}  // namespace

bool Layout::operator==(const Layout& other) const {
  return frames == other.frames && height == other.height && width == other.width &&
         channels == other.channels && patch_frames == other.patch_frames &&
         patch_height == other.patch_height && patch_width == other.patch_width &&
         closes_lines == other.closes_lines && closes_frames == other.closes_frames &&
         multiple == other.multiple;
}

std::vector<int32_t> Layout::slots() const {
  std::vector<int32_t> closing, ids;
  each_token(*this, [&](int64_t index, int64_t, int64_t, int64_t column) {
    (column < 0 ? closing : ids).push_back(static_cast<int32_t>(index));
  });
  closing.insert(closing.end(), ids.begin(), ids.end());
  return closing;
}

std::vector<int64_t> Layout::places() const {
  std::vector<int64_t> out;
  out.reserve(static_cast<size_t>(4 * tokens()));
  each_token(*this, [&](int64_t index, int64_t frame, int64_t line, int64_t column) {
    out.insert(out.end(), {index, frame, line, column});
  });
  return out;
}

int64_t Layout::patch_of(int32_t token) const {
  const int64_t frame_tokens = lines() * stride() + (closes_frames ? 1 : 0);
  const int64_t frame = token / frame_tokens, rest = token % frame_tokens;
  const int64_t line = rest / stride(), column = rest % stride();
  if (frame >= depth() || line >= lines() || column >= columns()) return -1;
  return (frame * lines() + line) * columns() + column;
}

void Layout::patchify(const float* latents, int64_t samples, float* patches) const {
  each_run(*this, samples, [&](int64_t latent, int64_t patch, int64_t length) {
    std::copy_n(latents + latent, length, patches + patch);
  });
}

void Layout::unpatchify(const float* patches, int64_t samples, float* latents) const {
  each_run(*this, samples, [&](int64_t latent, int64_t patch, int64_t length) {
    std::copy_n(patches + patch, length, latents + latent);
  });
}

Layout coarser(const Layout& layout, int64_t factor) {
  Layout out = layout;
  out.height /= factor;
  out.width /= factor;
  return out;
}

}  // namespace flagdit
