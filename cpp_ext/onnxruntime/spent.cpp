#include "spent.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

namespace flagdit::onnxruntime {
namespace {

thread_local Spent* spent_here = nullptr;

}  // namespace

Spent::Spent(std::set<std::string> read_once)
    : read_once_(std::move(read_once)), before_(spent_here) {
  spent_here = this;
}
Spent::~Spent() { spent_here = before_; }

void Spent::add(const std::string& name, const void* data, size_t bytes) {
  if (spent_here == nullptr || spent_here->read_once_.count(name) == 0) return;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const uintptr_t first = (begin + page - 1) / page * page, end = (begin + bytes) / page * page;
  // A system that does not do it keeps the memory, and that is all.
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

}  // namespace flagdit::onnxruntime
