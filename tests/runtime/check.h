// The smallest frame for tests that also run under an emulator: no library, and nothing but what
// failed is said.
#pragma once

#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace check {

struct Failed : std::exception {
  explicit Failed(std::string text) : text(std::move(text)) {}
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};

inline void that(bool holds, const std::string& what) {
  if (!holds) throw Failed(what);
}

// That it throws an error of type E whose text has this in it.
template <typename E>
void throws(const std::function<void()>& work, const std::string& text) {
  try {
    work();
  } catch (const E& error) {
    that(std::string(error.what()).find(text) != std::string::npos,
         std::string("got the error: ") + error.what());
    return;
  }
  throw Failed("no error, and it should say: " + text);
}

using Tests = std::vector<std::pair<const char*, std::function<void()>>>;

// Runs them all; returns what a program returns.
inline int run(const Tests& tests) {
  int failed = 0;
  for (const auto& [name, test] : tests) {
    try {
      test();
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED %s: %s\n", name, error.what());
    }
  }
  std::printf("%d passed, %d failed\n", static_cast<int>(tests.size()) - failed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace check
