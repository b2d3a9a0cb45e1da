// Switching between stacks: by hand on x86-64, since a switch of ucontext is a call of the system.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace emulator {

#ifdef __x86_64__

class Context {
 public:
  // Makes this a context that begins with `entry`, which never returns, on a stack.
  void begin(std::byte* stack, size_t bytes, void (*entry)()) {
    auto* top =
        reinterpret_cast<uint64_t*>((reinterpret_cast<uintptr_t>(stack) + bytes) & ~uintptr_t{15});
    *--top = 0;  // where entry would return to; after this, as after a call
    *--top = reinterpret_cast<uint64_t>(entry);
    for (int n = 0; n < 6; ++n) *--top = 0;  // the registers that a function must keep
    stack_ = top;
  }
  // Goes on with another context, until that one or one after it comes back to this.
  void switch_to(Context& other) { exchange_stacks(&stack_, other.stack_); }

 private:
  static void exchange_stacks(void** from, void* to) asm("flagdit_emulator_exchange_stacks");

  void* stack_ = nullptr;
};

#else

class Context {
 public:
  void begin(std::byte* stack, size_t bytes, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
  }
  void switch_to(Context& other) { swapcontext(&context_, &other.context_); }

 private:
  ucontext_t context_;
};

#endif

}  // namespace emulator
