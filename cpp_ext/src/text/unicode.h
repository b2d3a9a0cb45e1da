// Characters as Hugging Face's tokenizers know them, who mix three versions of Unicode.
#pragma once

#include <string>
#include <string_view>

namespace flagdit::text {

// Of a text in UTF-8. Throws std::invalid_argument if it is none.
std::u32string decode(std::string_view utf8);
std::string encode(std::u32string_view text);

// Each as one of the libraries below `tokenizers` has it.
bool is_space(char32_t c);
bool is_control(char32_t c);      // BERT's: neither tab nor line breaks
bool is_accent(char32_t c);       // BERT's: marks without a width
bool is_combining(char32_t c);    // marks, of StripAccents
bool is_punctuation(char32_t c);  // also all signs of ASCII
bool is_numeric(char32_t c);
bool is_word(char32_t c);    // \w
bool is_letter(char32_t c);  // \p{L}, and so on
bool is_number(char32_t c);
bool is_mark(char32_t c);
bool is_sign(char32_t c);
bool is_ideograph(char32_t c);  // of those that BERT puts spaces around

void append_lower(std::u32string& text, char32_t c);

// Normal forms: taken apart (D), put together again (C), look-alikes made alike (K).
std::u32string decomposed(std::u32string_view text, bool compatible);
std::u32string composed(std::u32string_view text, bool compatible);

// The next end of what a reader takes for one character, after `begin`.
size_t grapheme_end(std::u32string_view text, size_t begin);

}  // namespace flagdit::text
