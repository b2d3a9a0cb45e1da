#include "flagdit/repartition.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "check.h"
#include "repartition_kernel.h"
#include "upload.h"

namespace flagdit {

SlotBuffers::SlotBuffers(std::vector<SlotBuffer> buffers, int64_t slots, int64_t samples,
                         Device device)
    : buffers_(std::move(buffers)), slots_(slots), samples_(samples), device_(device) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check_range("SlotBuffers: slots", slots, 1, kMost);
  check_range("SlotBuffers: samples", samples, 1, kMost);
  std::vector<Range> ranges;
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const int64_t rows = buffers_[i].rows;
    const int64_t bytes = product("SlotBuffers: bytes", {slots, rows, buffers_[i].row_bytes});
    if (bytes > 0) ranges.push_back({buffers_[i].data, buffers_[i].data + bytes});
    if (rows < samples || rows % samples != 0) {
      refuse("SlotBuffers: rows of array " + std::to_string(i), std::to_string(rows),
             "a multiple of the " + std::to_string(samples) + " samples");
    }
    most_rows_ = std::max(most_rows_, rows);
  }
  check_apart("SlotBuffers: arrays", std::move(ranges));
  if (device == Device::cuda) table_ = upload_cuda(buffers_, "SlotBuffers");
}

void SlotBuffers::swap(const Tensor& swaps, const Tensor& counts, Stream stream) const {
  check_tensor("swap: swaps", swaps, DType::i32, {samples_, slots_, 2}, device_);
  check_tensor("swap: counts", counts, DType::i32, {samples_}, device_);
  RepartitionKernel kernel{};
  kernel.count = static_cast<int64_t>(buffers_.size());
  kernel.swaps = swaps.as<int32_t>();
  kernel.counts = counts.as<int32_t>();
  kernel.slots = slots_;
  kernel.samples = samples_;
  kernel.most_rows = most_rows_;
  if (device_ == Device::cpu) {
    kernel.buffers = buffers_.data();
    repartition_cpu(kernel);
  } else {
    kernel.buffers = static_cast<const SlotBuffer*>(table_.get());
    repartition_cuda(kernel, stream);
  }
}

}  // namespace flagdit
