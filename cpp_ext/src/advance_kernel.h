// What `advance` hands to a backend: raw pointers, sizes, checked.
#pragma once

#include <cmath>
#include <cstdint>

#include "flagdit/advance.h"
#include "host_device.h"

namespace flagdit {

struct AdvanceKernel {
  const void* output;     // (A, R, P)
  const float* guidance;  // (P,)
  float* velocity;        // (N, B, P)
  float* latent;          // (N, B, P)
  void* tokens;           // (N, R, P)
  float* score;           // (N, B)
  int32_t* age;           // (N, B)
  int32_t* drops;         // (N, B)
  float* slope;           // (N, B, P); null without history
  float* time;            // (N, B); null without history
  float dt, t, bend, forecast;
  int64_t slots, active, pinned, samples, branches, values, channels;
  bool deviation;  // the score: deviation, else magnitude
  bool last;
};

// How a token leaves the straight line along its velocity; without history it does not.
struct Course {
  float gap = 0.0f;    // head: time since its last output; 0 leaves the slope as it is
  float reach = 0.0f;  // tail: it moves along velocity + reach * slope
  float bend = 0.0f;   // latent += bend * slope
};

FLAGDIT_HOST_DEVICE inline Course head_course(const AdvanceKernel& k, int64_t at) {
  Course course;
  if (k.slope == nullptr) return course;
  course.gap = k.t - k.time[at];
  course.bend = k.bend;
  return course;
}

// Of a token with these squares of its norms. Straight without a slope, whatever its time says.
FLAGDIT_HOST_DEVICE inline Course tail_course(const AdvanceKernel& k, int64_t at, float velocity,
                                              float slope) {
  Course course;
  if (!(slope > 0.0f)) return course;
  const float gap = k.t - k.time[at];
  const float change = gap * std::sqrt(slope), most = k.forecast * std::sqrt(velocity);
  const float share = change > most ? most / change : 1.0f;
  course.reach = share * gap;
  course.bend = share * k.bend;
  return course;
}

void advance_cpu(const AdvanceKernel& kernel);
void advance_cuda(const AdvanceKernel& kernel, DType dtype, Stream stream);

}  // namespace flagdit
