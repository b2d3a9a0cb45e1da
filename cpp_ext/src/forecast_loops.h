// The inner loops of forecasts on a CPU, for the widest vectors that it has.
#pragma once

#include <cstdint>

#include "flagdit/bf16.h"

#if defined(__GNUC__) && defined(__x86_64__)
#define FLAGDIT_WIDE_LOOPS
#endif

#if defined(__GNUC__)
#define FLAGDIT_INLINE inline __attribute__((always_inline))
#else
#define FLAGDIT_INLINE inline
#endif

namespace flagdit {

// T is float, or uint16_t for bfloat16.
template <typename T>
struct ForecastLoops {
  // to = (values - anchor) * gain; 0 without a gain, whatever the anchor holds.
  void (*slopes)(const T* values, const T* anchor, float gain, int64_t n, uint16_t* to);
  // to = from + ahead * slope
  void (*move)(const T* from, const uint16_t* slope, float ahead, int64_t n, T* to);
};

namespace loops {

FLAGDIT_INLINE float load(float x) { return x; }
FLAGDIT_INLINE float load(uint16_t x) { return from_bf16(x); }
FLAGDIT_INLINE void store(float x, float& to) { to = x; }
FLAGDIT_INLINE void store(float x, uint16_t& to) { to = to_bf16(x); }

template <typename T>
FLAGDIT_INLINE void slopes(const T* __restrict values, const T* __restrict anchor, float gain,
                           int64_t n, uint16_t* __restrict to) {
  if (gain == 0.0f) {
    for (int64_t i = 0; i < n; ++i) to[i] = 0;
    return;
  }
  for (int64_t i = 0; i < n; ++i) to[i] = to_bf16((load(values[i]) - load(anchor[i])) * gain);
}

template <typename T>
FLAGDIT_INLINE void move(const T* __restrict from, const uint16_t* __restrict slope, float ahead,
                         int64_t n, T* __restrict to) {
  for (int64_t i = 0; i < n; ++i) store(load(from[i]) + ahead * from_bf16(slope[i]), to[i]);
}

template <typename T>
void slopes_any(const T* values, const T* anchor, float gain, int64_t n, uint16_t* to) {
  slopes(values, anchor, gain, n, to);
}
template <typename T>
void move_any(const T* from, const uint16_t* slope, float ahead, int64_t n, T* to) {
  move(from, slope, ahead, n, to);
}

#ifdef FLAGDIT_WIDE_LOOPS
// Compiled here, not in files with flags of their own: inline functions of others stay as they are.
#define FLAGDIT_AVX512 "avx512f,avx512bw,avx512vl,prefer-vector-width=512"
template <typename T>
__attribute__((target(FLAGDIT_AVX512))) void slopes_avx512(const T* values, const T* anchor,
                                                           float gain, int64_t n, uint16_t* to) {
  slopes(values, anchor, gain, n, to);
}
template <typename T>
__attribute__((target(FLAGDIT_AVX512))) void move_avx512(const T* from, const uint16_t* slope,
                                                         float ahead, int64_t n, T* to) {
  move(from, slope, ahead, n, to);
}
template <typename T>
__attribute__((target("avx2"))) void slopes_avx2(const T* values, const T* anchor, float gain,
                                                 int64_t n, uint16_t* to) {
  slopes(values, anchor, gain, n, to);
}
template <typename T>
__attribute__((target("avx2"))) void move_avx2(const T* from, const uint16_t* slope, float ahead,
                                               int64_t n, T* to) {
  move(from, slope, ahead, n, to);
}
#endif

}  // namespace loops

template <typename T>
ForecastLoops<T> forecast_loops() {
#ifdef FLAGDIT_WIDE_LOOPS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    return {loops::slopes_avx512<T>, loops::move_avx512<T>};
  if (__builtin_cpu_supports("avx2")) return {loops::slopes_avx2<T>, loops::move_avx2<T>};
#endif
  return {loops::slopes_any<T>, loops::move_any<T>};
}

}  // namespace flagdit
