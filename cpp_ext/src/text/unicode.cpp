#include "unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <vector>

namespace flagdit::text {
namespace {

struct Range {
  char32_t first, last;
};
struct Pair {
  char32_t from, to;
};

namespace except {
#include "exceptions.inc"
}

template <size_t size>
bool in(const Range (&ranges)[size], char32_t c) {
  const auto* found = std::partition_point(std::begin(ranges), std::end(ranges),
                                           [c](const Range& range) { return range.last < c; });
  return found != std::end(ranges) && found->first <= c;
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool between(char32_t c, utf8proc_category_t first, utf8proc_category_t last) {
  const utf8proc_category_t kind = category(c);
  return first <= kind && kind <= last;
}

bool letter(char32_t c) { return between(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO); }
bool mark(char32_t c) { return between(c, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME); }
bool number(char32_t c) { return between(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO); }
bool sign(char32_t c) { return between(c, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO); }

int combining_class(char32_t c) {
  if (c < 0x300 || in(except::unordered, c)) return 0;
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

// Marks behind a character in the order of their classes.
void order(std::u32string& text) {
  for (size_t i = 0; i < text.size(); ++i) {
    size_t end = i;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + i, text.begin() + end, [](char32_t a, char32_t b) {
      return combining_class(a) < combining_class(b);
    });
    i = end;
  }
}

// How many bytes a character has that begins with this one; 0: none does.
int length(unsigned char byte) {
  if (byte < 0x80) return 1;
  if (byte < 0xC2) return 0;
  return byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : byte < 0xF5 ? 4 : 0;
}

}  // namespace

std::u32string decode(std::string_view utf8) {
  constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  std::u32string text;
  text.reserve(utf8.size());
  for (size_t i = 0; i < utf8.size();) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    const int bytes = length(byte);
    bool whole = bytes > 0 && i + bytes <= utf8.size();
    char32_t c = bytes == 1 ? byte : byte & (0xFF >> (bytes + 1));
    for (int k = 1; whole && k < bytes; ++k) {
      const auto next = static_cast<unsigned char>(utf8[i + k]);
      whole = (next & 0xC0) == 0x80;
      c = c << 6 | (next & 0x3F);
    }
    if (!whole || c < least[bytes] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) {
      throw std::invalid_argument("no UTF-8");
    }
    text.push_back(c);
    i += bytes;
  }
  return text;
}

std::string encode(std::u32string_view text) {
  std::string utf8;
  utf8.reserve(text.size());
  for (const char32_t c : text) {
    utf8proc_uint8_t bytes[4];
    const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
    utf8.append(reinterpret_cast<const char*>(bytes), size);
  }
  return utf8;
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_control(char32_t c) {
  const bool said = between(c, UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CO) &&
                    !(c == '\t' || c == '\n' || c == '\r');
  return said != in(except::control, c);
}

bool is_accent(char32_t c) {
  return (category(c) == UTF8PROC_CATEGORY_MN) != in(except::accent, c);
}
bool is_combining(char32_t c) { return mark(c) != in(except::combining, c); }
bool is_numeric(char32_t c) { return number(c) != in(except::numeric, c); }
bool is_letter(char32_t c) { return letter(c) != in(except::letter, c); }
bool is_number(char32_t c) { return number(c) != in(except::number, c); }
bool is_mark(char32_t c) { return mark(c) != in(except::mark, c); }
bool is_sign(char32_t c) { return sign(c) != in(except::sign, c); }

bool is_punctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) ||
           (c >= 0x7B && c <= 0x7E);
  }
  return sign(c) != in(except::punctuation, c);
}

bool is_word(char32_t c) {
  const utf8proc_category_t kind = category(c);
  const bool said = letter(c) || mark(c) || kind == UTF8PROC_CATEGORY_ND ||
                    kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_PC;
  return said != in(except::word, c);
}

bool is_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void append_lower(std::u32string& text, char32_t c) {
  if (c == 0x130) {  // the only one that two characters are made of
    text += {U'i', U'\u0307'};
    return;
  }
  const auto* found = std::partition_point(std::begin(except::lowered), std::end(except::lowered),
                                           [c](const Pair& pair) { return pair.from < c; });
  const bool newer = found != std::end(except::lowered) && found->from == c;
  text +=
      newer ? found->to : static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

std::u32string decomposed(std::u32string_view text, bool compatible) {
  const auto options = static_cast<utf8proc_option_t>(
      UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : static_cast<utf8proc_option_t>(0)));
  std::u32string made;
  made.reserve(text.size());
  for (const char32_t c : text) {
    utf8proc_int32_t parts[32];
    int boundary = 0;
    const bool whole = c < 0xA0 || in(except::whole, c);
    const auto count = whole ? 0
                             : utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 32,
                                                       options, &boundary);
    if (count < 1 || count > 32) {
      made += c;
    } else {
      made.append(parts, parts + count);
    }
  }
  order(made);
  return made;
}

std::u32string composed(std::u32string_view text, bool compatible) {
  const std::u32string apart = decomposed(text, compatible);
  std::vector<utf8proc_int32_t> parts(apart.begin(), apart.end());
  const auto size =
      utf8proc_normalize_utf32(parts.data(), static_cast<utf8proc_ssize_t>(parts.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  if (size < 0) throw std::runtime_error(utf8proc_errmsg(size));
  return std::u32string(parts.begin(), parts.begin() + size);
}

size_t grapheme_end(std::u32string_view text, size_t begin) {
  utf8proc_int32_t state = 0;
  // Marks that utf8proc does not know yet stand as one that it does.
  const auto known = [text](size_t i) {
    return static_cast<utf8proc_int32_t>(in(except::extending, text[i]) ? 0x301 : text[i]);
  };
  size_t end = begin + 1;
  while (end < text.size() && !utf8proc_grapheme_break_stateful(known(end - 1), known(end), &state))
    ++end;
  return end;
}

}  // namespace flagdit::text
