// Text of others, such as a manifest's, as it may reach a terminal.
#pragma once

#include <string>
#include <string_view>

namespace flagdit {

// The text with an escape in place of everything that is no letter, sign or space, such as \x1b, so
// that it moves no cursor, renames no window, turns no line around and ends none.
std::string printable(std::string_view utf8);

// At most 200 characters of it.
std::string shortened(std::string_view utf8);

// In quotes, ASCII alone, at most 40 characters.
std::string in_quotes(std::string_view utf8);

}  // namespace flagdit
