// Latents as pictures, and pictures as PNG.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace flagdit {

// Bytes (H, W, 3) of pixels (3, H, W) in [-1, 1].
std::vector<uint8_t> to_bytes(const float* pixels, int64_t width, int64_t height);

// A PNG of them. texts: names and UTF-8.
std::string to_png(const std::vector<uint8_t>& bytes, int64_t width, int64_t height,
                   const std::vector<std::pair<std::string, std::string>>& texts);

// A PNG's picture as bytes (height, width, 3), whatever colours it is in, turned as its EXIF says;
// what is transparent in it shows. Throws Error(request), by its path.
struct Pixels {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> bytes;
};
Pixels read_png(const std::string& path);

// Writes a file whole or not at all. Throws Error(output).
void write_file(const std::string& path, const std::string& content);

}  // namespace flagdit
