// SentencePiece's own table of what becomes of characters: a trie in one array, and the texts that
// its leaves point to (sentencepiece, src/normalizer.cc; Darts-clone's units).
#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>

#include "rules.h"
#include "unicode.h"

namespace flagdit::text {
namespace {

constexpr size_t kShort = 6;  // bytes of a character with its marks that is looked up as one: fewer

std::string unbase64(const std::string& text) {
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (c == '=') break;
    const char* digit = std::strchr(digits, c);
    if (digit == nullptr || c == 0) throw std::invalid_argument("a map is no base64");
    bits = bits << 6 | static_cast<uint32_t>(digit - digits);
    count += 6;
    if (count >= 8) bytes += static_cast<char>(bits >> (count -= 8));
  }
  return bytes;
}

class Charsmap {
 public:
  explicit Charsmap(const std::string& bytes) {
    uint32_t size = 0;
    if (bytes.size() < 4) throw std::invalid_argument("a map has no size");
    std::memcpy(&size, bytes.data(), 4);
    if (size % 4 != 0 || size > bytes.size() - 4)
      throw std::invalid_argument("a map ends too early");
    units_.resize(size / 4);
    if (size != 0) std::memcpy(units_.data(), bytes.data() + 4, size);
    texts_ = bytes.substr(4 + size);
  }

  // Characters of the longest text that it has for one.
  int64_t longest() const {
    size_t most = 0;
    for (size_t begin = 0; begin < texts_.size();) {
      const size_t end = std::min(texts_.find('\0', begin), texts_.size());
      most = std::max(most, decode(std::string_view(texts_).substr(begin, end - begin)).size());
      begin = end + 1;
    }
    return static_cast<int64_t>(most);
  }

  // What becomes of a text's beginning; null: it stays.
  const std::u32string* of(const std::string& key, std::u32string& made) const {
    size_t node = 0;
    if (!step(node)) return nullptr;
    for (const char c : key) {
      if (c == 0) break;
      const auto label = static_cast<unsigned char>(c);
      node ^= label;
      if (node >= units_.size() || (units_[node] & 0x800000FFu) != label) return nullptr;
      const bool leaf = (units_[node] >> 8 & 1) != 0;
      if (!step(node)) return nullptr;
      if (leaf) return text(units_[node] & 0x7FFFFFFFu, made);
    }
    return nullptr;
  }

 private:
  bool step(size_t& node) const {
    if (node >= units_.size()) return false;
    const uint32_t unit = units_[node];
    node ^= size_t{unit >> 10} << ((unit & 0x200u) >> 6);
    return node < units_.size();
  }

  const std::u32string* text(size_t begin, std::u32string& made) const {
    if (begin > texts_.size()) throw std::runtime_error("its map points behind its texts");
    const size_t end = std::min(texts_.find('\0', begin), texts_.size());
    made = decode(std::string_view(texts_).substr(begin, end - begin));
    return &made;
  }

  std::vector<uint32_t> units_;
  std::string texts_;
};

void rewrite(const Charsmap& map, std::u32string& text) {
  std::u32string result, made;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = grapheme_end(text, begin);
    const std::string whole = encode(std::u32string_view(text).substr(begin, end - begin));
    if (whole.size() < kShort && map.of(whole, made) != nullptr) {
      result += made;
      begin = end;
      continue;
    }
    for (; begin < end; ++begin) {
      const bool changed =
          map.of(encode(std::u32string_view(text).substr(begin, 1)), made) != nullptr;
      result += changed ? made : std::u32string(1, text[begin]);
    }
  }
  text = std::move(result);
}

}  // namespace

Rewrite read_charsmap(const std::string& base64) {
  const std::string bytes = unbase64(base64);
  if (bytes.empty()) return [](std::u32string&) {};
  const auto map = std::make_shared<const Charsmap>(bytes);
  return [map](std::u32string& text) { rewrite(*map, text); };
}

int64_t longest_of_charsmap(const std::string& base64) {
  const std::string bytes = unbase64(base64);
  return bytes.empty() ? 1 : Charsmap(bytes).longest();
}

}  // namespace flagdit::text
