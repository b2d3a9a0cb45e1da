// What a prompt may be, before it is cut into tokens.
#include <cstdio>
#include <optional>

#include "flagdit/error.h"
#include "flagdit/request.h"

namespace flagdit {
namespace {

[[noreturn]] void refuse(const std::string& text) { throw Error(Fault::request, text); }

// Of a first byte of UTF-8; 0 if it is none.
int length_of(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return 2;
  if (first >= 0xe0 && first < 0xf0) return 3;
  return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

// The character that begins at a byte; none if there is no valid one (RFC 3629).
std::optional<char32_t> character(const std::string& text, size_t at, int& length) {
  const auto first = static_cast<unsigned char>(text[at]);
  length = length_of(first);
  if (length == 0 || at + static_cast<size_t>(length) > text.size()) return std::nullopt;
  constexpr unsigned char kBits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  char32_t code = first & kBits[length];
  for (int i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[at + static_cast<size_t>(i)]);
    if ((next & 0xc0) != 0x80) return std::nullopt;
    code = code << 6 | (next & 0x3f);
  }
  if (code < kLeast[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
    return std::nullopt;
  }
  return code;
}

// What Python's str.strip takes away.
bool is_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x20) || code == 0x85 ||
         code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
         code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

// A text in ASCII, with escapes, as Python's ascii()
// writes what is left of bytes that are no UTF-8.
std::string escaped(const std::string& text) {
  std::string plain;
  for (size_t at = 0; at < text.size();) {
    int length = 1;
    const std::optional<char32_t> code = character(text, at, length);
    if (!code) length = 1;
    char escape[16];
    if (code && *code < 0x80) {
      plain += text[at];
    } else {
      const unsigned value =
          code ? static_cast<unsigned>(*code) : 0xdc00u + static_cast<unsigned char>(text[at]);
      std::snprintf(escape, sizeof escape,
                    value < 0x100     ? "\x01x%02x"
                    : value < 0x10000 ? "\x01u%04x"
                                      : "\x01U%08x",
                    value);
      plain += escape;
    }
    at += static_cast<size_t>(length);
  }
  std::string out = quoted(plain);
  for (size_t at = out.find("\\x01"); at != std::string::npos; at = out.find("\\x01", at)) {
    out.replace(at, 4, "\\");
  }
  return out;
}

}  // namespace

bool is_blank(const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    int length = 1;
    const std::optional<char32_t> code = character(text, at, length);
    if (!code || !is_space(*code)) return false;
    at += static_cast<size_t>(length);
  }
  return true;
}

void check_prompt(const std::string& prompt, const std::string& name, int64_t longest) {
  if (is_blank(prompt)) {
    refuse("the " + name + " is empty; say what the picture should show");
  }
  int64_t count = 0;
  for (size_t at = 0; at < prompt.size(); ++count) {
    int length = 1;
    if (!character(prompt, at, length)) {
      refuse("the " + name + " " + escaped(prompt) + " is no Unicode text; write it in UTF-8");
    }
    at += static_cast<size_t>(length);
  }
  if (count > longest) {
    refuse("the " + name + " has " + std::to_string(count) + " characters; allowed are " +
           std::to_string(longest) + ", please shorten it");
  }
}

void check_tokens(const std::string& name, int64_t count, int64_t most) {
  if (count <= most) return;
  refuse("the " + name + " has " + std::to_string(count) + " tokens; allowed are " +
         std::to_string(most) + ", please shorten it");
}

}  // namespace flagdit
