// Sizes and numbers that may come from anyone, such as the author of a bundle: what is wrong with
// one is said in words, and sizes are multiplied and added without wrapping around.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace flagdit {

// Throws std::invalid_argument: "what: got ..., allowed ...".
[[noreturn]] void refuse(const std::string& what, const std::string& got,
                         const std::string& allowed);

void check_range(const std::string& what, int64_t got, int64_t least, int64_t most);
void check_finite(const char* what, float value);

// The product of sizes, 0 if one of them is, whatever the others are. Refuses a size below 0, and a
// product that an int64 does not hold.
int64_t product(const char* what, const int64_t* sizes, size_t count);
inline int64_t product(const char* what, std::initializer_list<int64_t> sizes) {
  return product(what, sizes.begin(), sizes.size());
}

// Their sum, likewise.
int64_t sum(const char* what, std::initializer_list<int64_t> sizes);

}  // namespace flagdit
