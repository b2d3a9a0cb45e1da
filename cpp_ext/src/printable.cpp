#include "printable.h"

#include <utf8proc.h>

#include <cstdio>

namespace flagdit {
namespace {

// The next character, of how many bytes; a byte that
// begins none is one by itself, of a negative number.
int next(std::string_view utf8, utf8proc_int32_t& c) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(utf8.data());
  const auto size = utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(utf8.size()), &c);
  if (size > 0) return static_cast<int>(size);
  c = -1 - bytes[0];
  return 1;
}

bool is_visible(utf8proc_int32_t c) {
  if (c == ' ') return true;
  const utf8proc_category_t kind = utf8proc_category(c);
  return UTF8PROC_CATEGORY_LU <= kind && kind <= UTF8PROC_CATEGORY_SO;
}

std::string escaped(utf8proc_int32_t c) {
  if (c == '\n') return "\\n";
  if (c == '\r') return "\\r";
  if (c == '\t') return "\\t";
  char text[12];
  const auto code = static_cast<unsigned>(c < 0 ? -1 - c : c);
  std::snprintf(text, sizeof text,
                code < 0x100     ? "\\x%02x"
                : code < 0x10000 ? "\\u%04x"
                                 : "\\U%08x",
                code);
  return text;
}

std::string shown(std::string_view utf8, size_t most, bool ascii) {
  std::string made;
  size_t at = 0;
  for (size_t count = 0; at < utf8.size() && count < most; ++count) {
    utf8proc_int32_t c = 0;
    const int size = next(utf8.substr(at), c);
    const bool plain = ascii ? c >= 0x20 && c < 0x7F : c >= 0 && is_visible(c);
    made += plain ? std::string(utf8.substr(at, size)) : escaped(c);
    at += size;
  }
  return ascii || at == utf8.size() ? made : made + "...";
}

}  // namespace

std::string printable(std::string_view utf8) { return shown(utf8, utf8.size() + 1, false); }
std::string shortened(std::string_view utf8) { return shown(utf8, 200, false); }
std::string in_quotes(std::string_view utf8) { return "'" + shown(utf8, 40, true) + "'"; }

}  // namespace flagdit
