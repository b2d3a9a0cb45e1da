// How the work on tokens is cut into tasks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "flagdit/linear.h"

namespace flagdit {

constexpr int64_t kLeastBlock = 64, kMostBlock = 256;  // tokens of a task
constexpr float kInt8Levels = 127.0f;                  // to each side of zero
constexpr float kSmallest = 1e-30f;  // magnitude that a vector of zeros is taken for

// gelu(x) = x sigmoid(kGelu (x + kGeluCube x^3)), which is that by tanh: kGelu = 2 sqrt(2 / pi).
constexpr float kGelu = 1.59576912f, kGeluCube = 0.044715f;

struct Tokens {
  int64_t begin, count;
};

void multiply_cpu(const Linear& l, Tokens at);
void multiply_amx(const Linear& l, Tokens at);
void feed_forward_cpu(const FeedForward& f, Tokens at);
void feed_forward_amx(const FeedForward& f, Tokens at);

}  // namespace flagdit
