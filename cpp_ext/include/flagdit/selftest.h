// Vectors that an engine of `denoise` is tried with before it is used. Compilers of engines have bugs
// that give wrong numbers and no error; so a bundle with engines for GPUs has inputs of a small
// picture, and what the exported graph made of them in fp32 on a CPU (docs/bundle.md).
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "flagdit/session.h"

namespace flagdit {

inline constexpr const char* kSelfTest = "selftest.safetensors";
inline constexpr int64_t kMaxSelfTest = int64_t{1} << 30;

// A call with so many active and cached tokens and rows. rests: without a text, of a model whose text
// may rest; no other has the case. Caches that no text adds to have kRested tokens less in it. Where one
// name is the beginning of another, the longer comes first.
struct SelfTestCase {
  int64_t active, cached, rows;
  bool rests = false;
  std::string name() const;
};
inline constexpr int64_t kRested = 2;
inline constexpr std::array<SelfTestCase, 4> kSelfTestCases{
    {{5, 7, 2, true}, {12, 0, 2}, {5, 7, 2}, {4, 8, 1}}};

class SelfTest {
 public:
  // Of the content of that file, which must stay. Throws Error(bundle) if it has no such vectors.
  explicit SelfTest(std::string_view content);

  // Runs a session of `denoise` once for each case. Throws Error(backend) unless it makes of the
  // vectors what it should, within its precision; Error(bundle) if the file has no values for an
  // input.
  void check(Session& session) const;

 private:
  struct Values {
    DType dtype;
    std::vector<int64_t> shape;
    std::string_view bytes;
  };
  struct Case {
    SelfTestCase size;
    std::map<std::string, Values> outputs;
  };

  void add(const std::string& name, Values values);
  Bound given(const Port& port, const Case& of, int64_t fewer) const;
  void compare(const Session& session, const Case& of, const std::vector<Bound>& made) const;

  std::map<std::string, Values> inputs_;
  std::map<std::string, Case> cases_;
};

}  // namespace flagdit
