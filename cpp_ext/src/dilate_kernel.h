// What `dilate` hands to a backend: raw pointers, sizes, checked.
#pragma once

#include <cmath>
#include <cstdint>

#include "flagdit/dilate.h"
#include "host_device.h"

namespace flagdit {

struct DilateKernel {
  float* score;          // (N, B)
  const int32_t* token;  // (N, B)
  float* grid;           // (B, N), by token
  int64_t slots, samples, line, pinned;
  float share;
};

// The CPU refuses an id outside the picture before anything is written. A kernel cannot: it skips
// the token, which neither lends nor receives.
FLAGDIT_HOST_DEVICE inline bool in_picture(const DilateKernel& k, int64_t token) {
  return token >= 0 && token < k.slots;
}

// A pinned token lends nothing: no score is below this.
FLAGDIT_HOST_DEVICE inline void lay_out(const DilateKernel& k, int64_t slot, int64_t sample) {
  const int64_t at = slot * k.samples + sample, token = k.token[at];
  if (!in_picture(k, token)) return;
  k.grid[sample * k.slots + token] = slot < k.pinned ? -INFINITY : k.score[at];
}

FLAGDIT_HOST_DEVICE inline void spread(const DilateKernel& k, int64_t slot, int64_t sample) {
  const int64_t token = k.token[slot * k.samples + sample];
  if (!in_picture(k, token)) return;
  const int64_t y = token / k.line, x = token % k.line, lines = (k.slots + k.line - 1) / k.line;
  const float* grid = k.grid + sample * k.slots;
  float most = grid[token];
  for (int64_t i = y > 0 ? y - 1 : 0; i <= y + 1 && i < lines; ++i) {
    for (int64_t j = x > 0 ? x - 1 : 0; j <= x + 1 && j < k.line; ++j) {
      if (i * k.line + j >= k.slots) break;  // the last line may be shorter: tokens that fill up
      const float lent = k.share * grid[i * k.line + j];
      most = lent > most ? lent : most;
    }
  }
  k.score[slot * k.samples + sample] = most;
}

void dilate_cpu(const DilateKernel& kernel);
void dilate_cuda(const DilateKernel& kernel, Stream stream);

}  // namespace flagdit
