#include "captures.h"

#include <utility>

namespace flagdit {
namespace {

constexpr size_t kGraphs = 16;  // a ratio that falls has eight levels at most

}  // namespace

Captures::Captures(const std::vector<Work>& works, std::string reason)
    : graphs_(kGraphs), planned_(!works.empty()), reason_(std::move(reason)) {
  for (const Work& work : works) ++left_[work.key()];
}

// To capture costs about as much as to launch: it pays from the second time on.
bool Captures::worthwhile(uint64_t key) { return !planned_ || left_[key] > 0; }

int64_t Captures::launch(const Work& work, bool settled, Stream stream,
                         const std::function<void()>& enqueue) {
  const uint64_t key = work.key();
  if (planned_) --left_[key];
  if (reason_.empty() && (graphs_.has(key) || (settled && worthwhile(key))))
    return graphs_.run(key, stream, enqueue);
  enqueue();
  return 0;
}

}  // namespace flagdit
