// Keys and values of one call of `denoise`, kept by token, for a session that finds its tails by
// itself (Session::finds_tails): what it computes is written once and read once, and no row moves
// from slot to slot between two calls.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace flagdit {

// One cache in bf16: the last two rows that were computed of every token.
struct KeptRows {
  uint16_t* rows[2];      // (N, R, width) each
  int64_t tokens, width;  // N; G * d
};

// A call. A row r belongs to sample r % B.
struct Tails {
  std::map<std::string, KeptRows> caches;  // by the port of the tail
  int64_t active = 0, tail = 0;            // A, M
  int64_t rows = 0, samples = 0;           // R, B
  bool keeps = false;                      // whether the head is kept, for a later call to read
  // By slot, (N, B): its token, and which of its two rows is the last one. Of the head that is the
  // one to be written. A row of the tail is
  //
  //   last + ahead * bf16((last - before) * gain)
  const int32_t *token = nullptr, *last = nullptr;
  const float *gain = nullptr, *ahead = nullptr;
};

}  // namespace flagdit
