// What the two halves of the emulator share: threads of a block, and the runtime.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "include/cuda_emulator.h"

namespace emulator {

// Held by every call of the runtime: one block runs at a time.
std::recursive_mutex& lock();

// All blocks of a launch. What was wrong, in words; empty if nothing was.
std::string run_grid(const Launch& launch, const char* name, const std::function<void()>& kernel);

// Random bytes, from the seed on.
void fill_with_garbage(void* memory, size_t bytes);

}  // namespace emulator
