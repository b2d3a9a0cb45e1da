#include "flagdit/pick.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>

#include "check.h"
#include "pick_kernel.h"
#include "upload.h"

namespace flagdit {

Picks::Picks(std::vector<PickTable> tables, int64_t entries, Device device)
    : tables_(std::move(tables)), entries_(entries), device_(device) {
  check_range("Picks: entries", entries, 1, std::numeric_limits<int32_t>::max());
  std::vector<Range> outs;
  for (size_t i = 0; i < tables_.size(); ++i) {
    const PickTable& table = tables_[i];
    const std::string of = " of table " + std::to_string(i);
    product("Picks: bytes", {entries, table.entry_bytes});
    check_range("Picks: first byte" + of, table.first_byte, 0, table.entry_bytes);
    check_range("Picks: bytes" + of, table.bytes, 0, table.entry_bytes - table.first_byte);
    const auto* out = static_cast<const std::byte*>(table.out);
    if (table.bytes > 0) outs.push_back({out, out + table.bytes});
  }
  check_apart("Picks: outs", std::move(outs));
  if (device == Device::cuda && !tables_.empty()) uploaded_ = upload_cuda(tables_, "Picks");
}

void Picks::copy(const Tensor& entry, Stream stream) const {
  check_tensor("Picks: entry", entry, DType::i32, {1}, device_);
  PickKernel kernel{
      tables_.data(), static_cast<int64_t>(tables_.size()), {entry.as<int32_t>(), entries_}};
  if (device_ == Device::cpu) return pick_cpu(kernel);
  int64_t most = 0;
  for (const PickTable& table : tables_) most = std::max(most, table.bytes);
  kernel.tables = static_cast<const PickTable*>(uploaded_.get());
  pick_cuda(kernel, most, stream);
}

}  // namespace flagdit
