#include "tails.h"

#include "flagdit/checked.h"

namespace flagdit::onnxruntime {
namespace {

thread_local FoundTails* found_here = nullptr;
thread_local CalledTails* called_here = nullptr;

}  // namespace

FoundTails::FoundTails() : before_(found_here) { found_here = this; }
FoundTails::~FoundTails() { found_here = before_; }

void FoundTails::add(const std::string& port) {
  if (found_here != nullptr) found_here->ports_.insert(port);
}

CalledTails::CalledTails(const Tails& tails) : tails_(tails), before_(called_here) {
  called_here = this;
}
CalledTails::~CalledTails() { called_here = before_; }

const Tails* CalledTails::now() { return called_here == nullptr ? nullptr : &called_here->tails_; }

KeptRows CalledTails::take(const std::string& port) {
  const auto at = called_here->tails_.caches.find(port);
  if (at == called_here->tails_.caches.end()) refuse(port, "a tail", "one of a cache of the run");
  ++called_here->taken_;
  return at->second;
}

}  // namespace flagdit::onnxruntime
