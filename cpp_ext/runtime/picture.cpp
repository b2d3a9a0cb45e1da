#include "picture.h"

#include <fcntl.h>
#include <lodepng.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <random>
#include <system_error>

#include "../src/printable.h"
#include "flagdit/error.h"
#include "upright.h"

namespace flagdit {
namespace {

constexpr unsigned kMostSide = 16384;  // pixels of a picture that is read

[[noreturn]] void unwritten(const std::string& path) {
  throw Error(Fault::output,
              printable(path) + ": cannot be written (" + std::strerror(errno) + ")");
}

bool write_all(int file, const std::string& content) {
  for (size_t at = 0; at < content.size();) {
    const ssize_t count = ::write(file, content.data() + at, content.size() - at);
    if (count < 0 && errno != EINTR) return false;
    at += count < 0 ? 0 : static_cast<size_t>(count);
  }
  return ::fsync(file) == 0;
}

// As iTXt, before the picture, where readers look that do not read all of it.
void add_text(LodePNGInfo& info, const std::string& name, const std::string& text) {
  const std::string content = name + std::string(5, '\0') + text;
  const unsigned failed =
      lodepng_chunk_create(&info.unknown_chunks_data[0], &info.unknown_chunks_size[0],
                           static_cast<unsigned>(content.size()), "iTXt",
                           reinterpret_cast<const unsigned char*>(content.data()));
  if (failed != 0) throw std::bad_alloc();
}

}  // namespace

std::vector<uint8_t> to_bytes(const float* pixels, int64_t width, int64_t height) {
  const int64_t plane = width * height;
  std::vector<uint8_t> bytes(static_cast<size_t>(3 * plane));
  for (int64_t channel = 0; channel < 3; ++channel) {
    for (int64_t i = 0; i < plane; ++i) {
      const float scaled = (pixels[channel * plane + i] + 1.0f) * 127.5f;
      const float value = std::min(std::max(std::nearbyint(scaled), 0.0f), 255.0f);
      bytes[static_cast<size_t>(3 * i + channel)] = static_cast<uint8_t>(value);
    }
  }
  return bytes;
}

std::string to_png(const std::vector<uint8_t>& bytes, int64_t width, int64_t height,
                   const std::vector<std::pair<std::string, std::string>>& texts) {
  lodepng::State state;
  state.info_raw.colortype = LCT_RGB;
  state.info_png.color.colortype = LCT_RGB;
  state.encoder.auto_convert = 0;
  state.encoder.add_id = 0;
  for (const auto& [name, text] : texts) add_text(state.info_png, name, text);
  std::vector<unsigned char> out;
  const unsigned failed = lodepng::encode(out, bytes, static_cast<unsigned>(width),
                                          static_cast<unsigned>(height), state);
  if (failed != 0)
    throw Error(Fault::output,
                std::string("a PNG cannot be made (") + lodepng_error_text(failed) + ")");
  return std::string(out.begin(), out.end());
}

Pixels read_png(const std::string& path) {
  std::error_code none;
  std::ifstream file;  // of what is no file, such as a device, there may be no end
  if (std::filesystem::is_regular_file(path, none)) file.open(path, std::ios::binary);
  if (!file.is_open())
    throw Error(Fault::request, printable(path) + ": there is no such file; give a PNG picture");
  const std::vector<unsigned char> content{std::istreambuf_iterator<char>(file), {}};
  unsigned width = 0, height = 0;
  lodepng::State state;
  state.info_raw.colortype = LCT_RGB;
  state.decoder.remember_unknown_chunks = 1;
  unsigned failed = lodepng_inspect(&width, &height, &state, content.data(), content.size());
  if (failed == 0 && (width > kMostSide || height > kMostSide))
    throw Error(Fault::request, printable(path) + ": is " + std::to_string(width) + "x" +
                                    std::to_string(height) + "; allowed are sides of " +
                                    std::to_string(kMostSide));
  Pixels out;
  if (failed == 0) failed = lodepng::decode(out.bytes, width, height, state, content);
  if (failed != 0)
    throw Error(Fault::request, printable(path) + ": cannot be read as a PNG picture (" +
                                    lodepng_error_text(failed) + ")");
  out.width = width, out.height = height;
  return upright(std::move(out), orientation_of(state));
}

void write_file(const std::string& path, const std::string& content) {
  const size_t slash = path.find_last_of('/');
  const std::string folder =
      slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
  std::random_device random;
  char name[40];
  std::snprintf(name, sizeof name, "/.flagdit-%08x%08x", random(), random());
  const std::string made = folder + name;
  const int file = ::open(made.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) unwritten(path);
  const bool whole = write_all(file, content);
  const int reason = errno;
  ::close(file);
  if (whole && ::rename(made.c_str(), path.c_str()) == 0) return;
  errno = whole ? errno : reason;
  const int why = errno;
  ::unlink(made.c_str());
  errno = why;
  unwritten(path);
}

}  // namespace flagdit
