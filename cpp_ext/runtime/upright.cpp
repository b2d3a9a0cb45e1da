#include "upright.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "flagdit/orientation.h"

namespace flagdit {
namespace {

// The last text of that name.
std::string text_of(char** names, char** texts, size_t count, const char* name) {
  for (size_t i = count; i-- > 0;)
    if (std::strcmp(names[i], name) == 0) return texts[i];
  return "";
}

// Bytes of the digits behind a text's first three lines: a name, and how many there are.
std::vector<uint8_t> profile(const std::string& text) {
  size_t at = 0;
  for (int line = 0; line < 3 && at != std::string::npos; ++line) {
    at = text.find('\n', at);
    if (at != std::string::npos) ++at;
  }
  std::vector<uint8_t> out;
  int half = -1;
  for (; at < text.size(); ++at) {
    const char* const digits = "0123456789abcdef";
    const char* const found =
        std::strchr(digits, text[at] >= 'A' && text[at] <= 'F' ? text[at] + 32 : text[at]);
    if (found == nullptr || *found == 0) continue;  // the end of a line
    const int value = static_cast<int>(found - digits);
    if (half >= 0) out.push_back(static_cast<uint8_t>(half << 4 | value));
    half = half >= 0 ? -1 : value;
  }
  return out;
}

// As XMP says, as an attribute or as an element.
int of_xmp(const std::string& text) {
  const std::string name = "tiff:Orientation";
  for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at)) {
    at += name.size();
    const size_t value = text.compare(at, 2, "=\"") == 0 ? at + 2
                         : text.compare(at, 1, ">") == 0 ? at + 1
                                                         : text.size();
    if (value < text.size() && text[value] >= '0' && text[value] <= '9')
      return text[value] >= '1' && text[value] <= '8' ? text[value] - '0' : 1;
  }
  return 1;
}

}  // namespace

int orientation_of(const lodepng::State& state) {
  const LodePNGInfo& info = state.info_png;
  int out = 0;
  bool has = false;
  for (int part = 0; part < 3; ++part) {  // between which of the PNG's own chunks it stands
    const unsigned char* at = info.unknown_chunks_data[part];
    const unsigned char* const end = at + info.unknown_chunks_size[part];
    for (; at < end && (at = lodepng_chunk_find_const(at, end, "eXIf")) != nullptr;
         at = lodepng_chunk_next_const(at, end)) {
      out = orientation_of(lodepng_chunk_data_const(at), lodepng_chunk_length(at));
      has = true;
    }
  }
  if (!has) {
    const std::vector<uint8_t> exif =
        profile(text_of(info.text_keys, info.text_strings, info.text_num, "Raw profile type exif"));
    out = orientation_of(exif.data(), exif.size());
  }
  if (out != 0) return out;
  return of_xmp(text_of(info.itext_keys, info.itext_strings, info.itext_num, "XML:com.adobe.xmp"));
}

Pixels upright(Pixels picture, int orientation) {
  if (orientation <= 1) return picture;
  const bool lines_are_columns = orientation >= 5;
  const bool from_right =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_below =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Pixels out{picture.width, picture.height, std::vector<uint8_t>(picture.bytes.size())};
  if (lines_are_columns) std::swap(out.width, out.height);
  for (int64_t y = 0, i = 0; y < out.height; ++y) {
    for (int64_t x = 0; x < out.width; ++x, ++i) {
      int64_t column = lines_are_columns ? y : x, line = lines_are_columns ? x : y;
      if (from_right) column = picture.width - 1 - column;
      if (from_below) line = picture.height - 1 - line;
      const auto from = static_cast<size_t>(3 * (line * picture.width + column));
      std::memcpy(&out.bytes[static_cast<size_t>(3 * i)], &picture.bytes[from], 3);
    }
  }
  return out;
}

}  // namespace flagdit
