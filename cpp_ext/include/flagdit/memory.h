// How much memory a run takes on a CPU, before anything is allocated.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "flagdit/price.h"

namespace flagdit {

// Bytes of Python, its libraries, and a text encoder and
// tokenizer as small as the demo's, measured on Linux.
constexpr int64_t kProgramBytes = int64_t{120} << 20;

// Attention takes so many bytes of scores whole, else blocks of so many, of no fewer queries than
// the last (blocked_attention.cpp).
constexpr int64_t kWholeScores = 4 << 20, kScoreBlock = 1 << 20, kLeastQueries = 64;

// What an engine of a precision holds. live: fp32 values that a layer holds at a time for each
// token and row, so many times its width, its keys and its hidden layer; measured as peaks of
// engine calls of four models (widths 256 to 512, hidden 768 to 2048, 1 to 4 heads a key head).
struct Footprint {
  int64_t weight;  // bytes of a parameter as it is stored, widened and laid out to multiply with
  double live_width, live_keys, live_hidden;
  int64_t value_bytes;  // of a cached value
  bool scores;          // whether scores of attention are in memory, and not in a core's cache
};

// Throws std::invalid_argument for a precision that is none of float32, int8,
// int8-bf16, float16, bfloat16, fp8.
const Footprint& footprint_of(const std::string& precision);

// Bytes that a process holds when a run takes most.
struct Memory {
  int64_t program = 0;  // with libraries and the text encoder
  int64_t weights = 0;
  int64_t caches = 0;       // what the plan keeps of tokens: keys, values, velocities (Cost)
  int64_t state = 0;        // what else it keeps of them
  int64_t conditions = 0;   // keys and values of the text, modulations of all evaluations
  int64_t activations = 0;  // of one layer
  int64_t scores = 0;       // of attention
  int64_t decode = 0;       // of a picture, when those two are gone

  int64_t total() const;
  // All of it where a process that holds so much has loaded the engine already.
  int64_t after(int64_t loaded) const;
};

struct Machine {
  int64_t threads = 1;  // of the engine
  int64_t program = kProgramBytes;
};

// What a run of these plans one after the other takes in an engine of that precision; of all
// it says the largest. The last plan is of the full size, coarse ones before it. It is an
// estimate: docs/cpu.md says how near it comes. A part beyond 2^59 bytes is said to be that.
Memory memory(const Sizes& sizes, const std::vector<const Plan*>& plans,
              const std::string& precision, const Batch& batch, const Machine& machine = {});

// Throws Error if a run needs more than `present` bytes, with what would fit; none is not known.
// needs: bytes that a run of so many pictures at a time needs. what: the run, less: what would take
// less, for the message.
void check_memory(const std::function<int64_t(int64_t)>& needs, std::optional<int64_t> present,
                  int64_t samples, const std::string& what, const std::string& less = "");

}  // namespace flagdit
