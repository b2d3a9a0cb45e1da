// lru_trace CAPACITY KEY...: asks an Lru for the keys in turn; prints for each whether it was
// "made" or "kept", and how many it keeps then. Making a negative key throws: "refused".
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "flagdit/lru.h"

int main(int count, char** words) {
  flagdit::Lru<long, long> lru(std::strtoul(words[1], nullptr, 10));
  for (int i = 2; i < count; ++i) {
    const long key = std::strtol(words[i], nullptr, 10);
    const char* what = "kept";
    try {
      const long value = lru.get(key, [&] {
        if (key < 0) throw std::runtime_error("a failed capture");
        what = "made";
        return 2 * key;
      });
      if (value != 2 * key) what = "wrong";
    } catch (const std::runtime_error&) {
      what = "refused";
    }
    std::printf("%s %zu\n", what, lru.size());
  }
}
