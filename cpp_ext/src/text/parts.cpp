// What several rules have in common.
#include <stdexcept>

#include "../printable.h"
#include "rules.h"
#include "unicode.h"

namespace flagdit::text {

std::u32string read_text(const Json& value) { return decode(value.get_ref<const std::string&>()); }

Pattern read_pattern(const Json& rule) {
  const Json& pattern = rule.at("pattern");
  if (const auto text = pattern.find("String"); text != pattern.end())
    return Pattern::literal(read_text(*text));
  return Pattern(read_text(pattern.at("Regex")));
}

std::u32string visible_bytes(const std::u32string& text) {
  std::u32string made;
  for (const char c : encode(text)) {
    const auto byte = static_cast<unsigned char>(c);
    // What can be seen of Latin-1 stands for itself; the others follow from U+0100 on.
    if (byte <= 0x20) {
      made += 0x100 + byte;
    } else if (byte >= 0x7F && byte <= 0xA0) {
      made += 0x121 + (byte - 0x7F);
    } else {
      made += byte == 0xAD ? char32_t{0x143} : char32_t{byte};
    }
  }
  return made;
}

void refuse_kind(const std::string& kind) {
  throw std::invalid_argument("a rule of the kind " + in_quotes(kind) + " is not known");
}

}  // namespace flagdit::text
