// Memory that a thread keeps from task to task.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "flagdit/checked.h"

namespace flagdit {

// Uninitialised memory of a thread, aligned to a cache line, that is
// kept for the thread's next task: new pages from the system would
// cost more than the work on them. One for each kind of content.
template <typename T, typename Kind>
T* scratch(int64_t count) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local int64_t bytes = 0;
  const int64_t blocks = sum("scratch", {count, 63}) / 64;  // of 64 values
  const int64_t needed = product("scratch", {blocks, 64, static_cast<int64_t>(sizeof(T))});
  if (needed > bytes) {
    memory.reset(std::aligned_alloc(64, needed));
    bytes = memory == nullptr ? 0 : needed;
    if (memory == nullptr) throw std::bad_alloc();
  }
  return static_cast<T*>(memory.get());
}

}  // namespace flagdit
