#include "captures.h"

#include <utility>

#include "flagdit/error.h"

namespace flagdit {
namespace {

constexpr size_t kGraphs = 16;  // a ratio that falls has eight levels at most

}  // namespace

Captures::Captures(std::map<uint64_t, int64_t> left, std::string reason)
    : graphs_(kGraphs), left_(std::move(left)), planned_(!left_.empty()),
      reason_(std::move(reason)) {}

// To capture costs about as much as to launch: it pays from the second time on.
bool Captures::worthwhile(uint64_t key) { return !planned_ || left_[key] > 0; }

int64_t Captures::launch(uint64_t key, bool settled, Stream stream,
                         const std::function<void()>& enqueue) {
  if (planned_) --left_[key];
  if (reason_.empty() && (graphs_.has(key) || (settled && worthwhile(key))))
    return graphs_.run(key, stream, enqueue);
  enqueue();
  return 0;
}

}  // namespace flagdit
