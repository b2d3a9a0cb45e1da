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

// Writes a file whole or not at all. Throws Error(output).
void write_file(const std::string& path, const std::string& content);

}  // namespace flagdit
