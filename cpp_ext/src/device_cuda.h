// What device.h asks of CUDA.
#pragma once

#include <cstdint>
#include <memory>

#include "flagdit/device.h"

namespace flagdit {

Gpu describe_cuda();

std::shared_ptr<std::byte> allocate_zeros_cuda(int64_t bytes);
std::shared_ptr<std::byte> pinned_cuda(int64_t bytes);
void copy_cuda(void* to, const void* from, int64_t bytes, Stream stream);
void clear_cuda(void* memory, int64_t bytes, Stream stream);
void wait_cuda(Stream stream);
bool captures_cuda(Stream stream);
std::shared_ptr<void> make_stream_cuda();
std::shared_ptr<void> make_event_cuda();
void record_cuda(void* event, Stream stream);
void hold_cuda(void* event, Stream stream);
void wait_event_cuda(void* event);
double seconds_cuda(void* from, void* to);

}  // namespace flagdit
