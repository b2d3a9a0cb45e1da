#include "flagdit/orientation.h"

#include <cstring>

namespace flagdit {
namespace {

constexpr size_t kHeader = 8, kEntry = 12;
constexpr unsigned kOrientation = 274, kShort = 3, kLong = 4;

// Numbers of a file that says which of their bytes comes first.
struct Directory {
  const uint8_t* data;
  size_t size;
  bool big;

  bool holds(size_t at, size_t count) const { return at <= size && count <= size - at; }

  uint32_t number(size_t at, size_t count) const {
    uint32_t out = 0;
    for (size_t i = 0; i < count; ++i) out = out << 8 | data[at + (big ? i : count - 1 - i)];
    return out;
  }
};

// The value of the entry, if it is one number.
uint32_t value_of(const Directory& tags, size_t at) {
  const uint32_t type = tags.number(at + 2, 2);
  if (tags.number(at + 4, 4) != 1 || (type != kShort && type != kLong)) return 1;
  return tags.number(at + 8, type == kShort ? 2 : 4);
}

}  // namespace

int orientation_of(const uint8_t* exif, size_t size) {
  constexpr char kName[] = {'E', 'x', 'i', 'f', 0, 0};
  if (size >= sizeof kName && std::memcmp(exif, kName, sizeof kName) == 0)
    exif += sizeof kName, size -= sizeof kName;
  if (size < kHeader) return 0;
  const bool big = exif[0] == 'M';
  if ((exif[0] != 'I' && !big) || exif[1] != exif[0]) return 0;
  const Directory tags{exif, size, big};
  if (tags.number(2, 2) != 42) return 0;
  const size_t first = tags.number(4, 4);
  if (!tags.holds(first, 2)) return 0;
  const size_t count = tags.number(first, 2);
  for (size_t i = 0, at = first + 2; i < count && tags.holds(at, kEntry); ++i, at += kEntry) {
    if (tags.number(at, 2) != kOrientation) continue;
    const uint32_t value = value_of(tags, at);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 0;
}

}  // namespace flagdit
