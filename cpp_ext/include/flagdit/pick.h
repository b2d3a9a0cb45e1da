// Copies what belongs to an evaluation out of tables that hold an entry for each, or into them,
// where the number of the entry lies in the backend's memory: a captured graph has it at fixed
// addresses (tick.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "flagdit/tensor.h"

namespace flagdit {

// memcpy(out, table + entry * entry_bytes + first_byte, bytes), or the other way
struct PickTable {
  void* table;
  void* out;
  int64_t entry_bytes;  // of one entry
  int64_t first_byte;   // of it that is copied
  int64_t bytes;        // that are copied; they end within the entry
  bool kept = false;    // the other way: what is in `out` goes to the table
};

// The tables of one call of `denoise` in one run. Does not own their memory.
class Picks {
 public:
  // On CUDA this allocates and fills the kernel's table, and synchronises: construct once per run.
  Picks(std::vector<PickTable> tables, int64_t entries, Device device);

  // One pass over all tables. entry: (1,) i32; one outside the tables is their nearest.
  void copy(const Tensor& entry, Stream stream) const;

 private:
  std::vector<PickTable> tables_;
  std::shared_ptr<const void> uploaded_;  // tables_ in device memory; empty on CPU
  int64_t entries_;
  Device device_;
};

}  // namespace flagdit
