// What `advance` hands to a backend: raw pointers, sizes, checked.
#pragma once

#include <cmath>
#include <cstdint>

#include "flagdit/advance.h"
#include "host_device.h"
#include "tick_kernel.h"

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
  float* time;            // (N, B); null without history, and then all below
  float* rate;            // (N, B)
  float* slope;           // (N, B, P) or null
  float* curve;           // (N, B, P) or null
  float* span;            // (N, B) or null
  const float* numbers;   // (E, 5) or null; its entry is dt, t, next, bend, arc
  Entry entry;
  const bool* known;   // (N, B) or null
  const float* given;  // (N, B, P) velocities of the known tokens, or null
  float dt, t, next, bend, arc, forecast;
  int64_t slots, active, pinned, samples, branches, values, channels;
  Metric metric;
  bool keep_norm;
  bool last;
};

// The kernel of this evaluation.
FLAGDIT_HOST_DEVICE inline AdvanceKernel at_entry(AdvanceKernel k) {
  if (k.numbers == nullptr) return k;
  const float* numbers = k.numbers + 5 * current(k.entry);
  k.dt = numbers[0];
  k.t = numbers[1];
  k.next = numbers[2];
  k.bend = numbers[3];
  k.arc = numbers[4];
  return k;
}

// What a token moves along: gain * (velocity + linear * slope + quadratic * curve), and the
// latent's way along slope and curve besides. Without history: its velocity.
struct Course {
  float gain = 1.0f, linear = 0.0f, quadratic = 0.0f;
  float bend = 0.0f, bend_curve = 0.0f;
};

// v.v, v.d and d.d of a token's velocity v and of its extrapolated change d, before any clamp.
struct Products {
  float vv = 0.0f, vd = 0.0f, dd = 0.0f;
};

// Newton's form of the polynomial through the last outputs, at time t.
FLAGDIT_HOST_DEVICE inline Course newton(const AdvanceKernel& k, int64_t at) {
  Course course;
  const float gap = k.t - k.time[at];
  if (k.slope == nullptr || !(gap > 0.0f) || std::isinf(gap)) return course;
  course.linear = gap;
  course.bend = k.bend;
  if (k.curve == nullptr) return course;
  course.quadratic = gap * (gap + k.span[at]);
  course.bend_curve = k.bend * (2.0f * gap + k.span[at]);
  return course;
}

FLAGDIT_HOST_DEVICE inline float change_at(const AdvanceKernel& k, int64_t i, const Course& c) {
  const float first = c.linear * k.slope[i];
  return k.curve == nullptr ? first : first + c.quadratic * k.curve[i];
}

FLAGDIT_HOST_DEVICE inline float bend_at(const AdvanceKernel& k, int64_t i, const Course& c) {
  const float first = c.bend * k.slope[i];
  return k.curve == nullptr ? first : first + c.bend_curve * k.curve[i];
}

// Clamps the polynomial's change, and restores the norm.
FLAGDIT_HOST_DEVICE inline Course clamp(const AdvanceKernel& k, Course c, const Products& of) {
  if (!(of.dd > 0.0f)) return {};
  const float change = std::sqrt(of.dd), most = k.forecast * std::sqrt(of.vv);
  const float share = change > most ? most / change : 1.0f;
  const float after = of.vv + share * (2.0f * of.vd + share * of.dd);
  if (k.keep_norm && after > 0.0f) c.gain = std::sqrt(of.vv / after);
  c.linear *= share;
  c.quadratic *= share;
  c.bend *= share * c.gain;
  c.bend_curve *= share * c.gain;
  return c;
}

// The head's way: straight along its new velocity, and what the solver adds along slope and curve.
FLAGDIT_HOST_DEVICE inline Course head_course(const AdvanceKernel& k) {
  Course course;
  course.bend = k.slope == nullptr ? 0.0f : k.bend;
  course.bend_curve = k.curve == nullptr ? 0.0f : k.arc;
  return course;
}

// Time since the head's last output; 0 if there was none, or it was at this time.
FLAGDIT_HOST_DEVICE inline float head_gap(const AdvanceKernel& k, int64_t at) {
  if (k.time == nullptr) return 0.0f;
  const float gap = k.t - k.time[at];
  return gap > 0.0f && !std::isinf(gap) ? gap : 0.0f;
}

// One value of the head with its new velocity: returns
// what its course had missed, and updates the differences.
FLAGDIT_HOST_DEVICE inline float learn(const AdvanceKernel& k, int64_t i, const Course& expected,
                                       float velocity, float gap, float span) {
  const float old = k.velocity[i];
  k.velocity[i] = velocity;
  if (!(gap > 0.0f)) return 0.0f;
  float predicted = old;
  if (k.slope != nullptr) {
    predicted = expected.gain * (old + change_at(k, i, expected));
    const float slope = (velocity - old) / gap;
    if (k.curve != nullptr) k.curve[i] = span > 0.0f ? (slope - k.slope[i]) / (gap + span) : 0.0f;
    k.slope[i] = slope;
  }
  return velocity - predicted;
}

FLAGDIT_HOST_DEVICE inline bool is_known(const AdvanceKernel& k, int64_t at) {
  return k.known != nullptr && k.known[at];
}

// One value of a known token, in head or tail: a velocity that does not change.
FLAGDIT_HOST_DEVICE inline void learn_known(const AdvanceKernel& k, int64_t i) {
  k.velocity[i] = k.given[i];
  if (k.slope != nullptr) k.slope[i] = 0.0f;
  if (k.curve != nullptr) k.curve[i] = 0.0f;
}

// One more, up to what an int32 holds: the caller's array may begin with any number.
FLAGDIT_HOST_DEVICE inline int32_t counted(int32_t count, bool more) {
  return more && count < INT32_MAX ? count + 1 : count;
}

// The scalars of a token after a step. missed: sum of squares of what `learn` returned.
FLAGDIT_HOST_DEVICE inline void settle(const AdvanceKernel& k, int64_t at, bool head, float gap,
                                       float missed) {
  if (head && gap > 0.0f) {
    k.rate[at] = std::sqrt(missed / static_cast<float>(k.values)) / gap;
    if (k.span != nullptr) k.span[at] = gap;
  }
  if (head && k.time != nullptr) k.time[at] = k.t;
  if (k.rate != nullptr && is_known(k, at)) k.rate[at] = 0.0f;
  if (k.metric == Metric::change) {
    const float ahead = k.next - k.time[at];
    k.score[at] = std::isinf(ahead) ? 0.0f : k.rate[at] * ahead;
  }
  const bool kept = !head && k.last;
  k.age[at] = head ? 0 : counted(k.age[at], kept);
  k.drops[at] = counted(k.drops[at], kept);
}

void advance_cpu(const AdvanceKernel& kernel);
void advance_cuda(const AdvanceKernel& kernel, DType dtype, Stream stream);

}  // namespace flagdit
