// Everything that a run keeps per slot. Slots hold tokens: those without a latent first, then the
// rest of the head, then the tail, whose velocity and caches are those of their last computation.
// Every array is slot-major, (N, rows, ...), so head and tail are contiguous. Rows that only some
// steps compute therefore have arrays of their own.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "flagdit/advance.h"
#include "flagdit/arena.h"
#include "flagdit/forecast.h"
#include "flagdit/layout.h"
#include "flagdit/make_plan.h"
#include "flagdit/renormalise.h"
#include "flagdit/repartition.h"
#include "flagdit/session.h"
#include "flagdit/tails.h"

namespace flagdit {

// The sizes of a run at one size of picture.
struct Extent {
  Layout layout;
  int64_t samples = 1, branches = 1;  // B, and of guidance
  Renormalise renormalise = Renormalise::none;
  int64_t text = 0;  // T, of a model whose text adds to the caches

  int64_t rows() const { return samples * branches; }  // R; row r belongs to sample r % B
};

// Calls whose caches stay with their tokens in steps that do not make them. A third one skips layers:
// its first step is dense, and after its last one nobody reads them.
constexpr size_t kKept = 2;

// What `denoise` writes in one call: of all R rows, or of the B rows of one branch.
struct Call {
  int64_t first_row, rows;
  Tensor output;               // (N, rows, P)
  std::vector<Tensor> caches;  // (N, rows, ...), one for each port of the engine that starts with M
  // Where in each of them begins what the text adds, (T, rows, ...): behind the slots, at an address
  // that is aligned; -1 where it adds nothing.
  std::vector<int64_t> texts;
};

// Keys and values of one call, forecast: see forecast.h. A group of caches of one width.
struct ForecastArrays {
  std::vector<Tensor> anchors, slopes;  // as the caches; slopes are bf16
  Tensor anchored;                      // (N, B)
};

// Latents (B, C, F, H, W) of what is by slot: token (N, B), latent and velocity (N, B, P), moved
// `ahead` in time along the velocity, which is read only then.
void latents_of(const Extent& extent, const int32_t* token, const float* latent,
                const float* velocity, double ahead, float* out);

class Buffers {
 public:
  // Takes its arrays from the arena, and touches none: with one that counts, this is what a run
  // takes.
  Buffers(const std::vector<Port>& ports, const Extent& extent, const Keeps& keeps, Arena& arena);

  // Begins with latents (B, C, F, H, W). Throws Error(bundle) if `placed` differs among patches
  // where `denoise` has no row for each sample.
  void begin(const float* latents, const std::vector<Bound>& placed, Stream stream);
  // Places the tokens anew, in the order of slots as it is: addresses stay. What is known of changes
  // is of other places, and forgotten. Waits for the stream.
  void place_anew(const std::vector<Bound>& placed, Stream stream);
  // The next velocities are of another field, and make no slope with those before.
  void turn(Stream stream) const;
  // What is known of patches (patches,) and the velocities (B, C, F, H, W) to it, before any step.
  void begin_known(const uint8_t* patches, const float* velocity, Stream stream);

  // What a call with so many active slots binds besides its conditions. rests: its text is not
  // computed, so the tail goes on with what the text added before.
  std::vector<Bound> head(int64_t active, size_t call, bool rests = false) const;
  // Why the text cannot rest; null if it can.
  const char* why_no_rest() const;
  // What moves with its tokens before a step that makes so many calls.
  SlotBuffers moved(size_t calls) const;
  // The forecasts of a call.
  std::vector<CacheForecast> forecasts(size_t call) const;
  // Or, for a session that finds its tails, the same arrays by token, by port.
  std::map<std::string, KeptRows> kept(size_t call) const;

  // Latents (B, C, F, H, W), moved `ahead` in time along the cached velocities, once all is done
  // that was enqueued on the stream.
  void latents(float* out, double ahead, Stream stream) const;
  // (B, F, H, W) in patches: steps since the velocity of each was computed.
  void ages(int16_t* out, Stream stream) const;

  Extent extent;
  Tensor token;                                 // (N, B) i32
  Tensor latent, velocity;                      // (N, B, P) f32
  Tensor tokens;                                // (N, R or B, P), what `denoise` reads
  Tensor age, drops;                            // (N, B) i32
  Tensor score;                                 // (N, B) f32
  std::optional<History> history{};             // of `advance`
  std::optional<Tensor> known, known_velocity;  // (N, B) boolean, (N, B, P) f32
  std::optional<Tensor> difference, guided;     // (N, B, P) f32, where branches are apart
  std::optional<Tensor> norms, factors;         // of `renormalise`
  std::vector<Call> calls;
  std::vector<Bound> placed;                                 // by slot
  std::vector<std::vector<ForecastArrays>> forecast_arrays;  // of each call, a group a width
  Tensor swaps, counts, codes, grid;                         // of `select` and `dilate`

 private:
  void place(const std::vector<Bound>& by_token, const int32_t* ids, Stream stream) const;
  void forget(Stream stream) const;

  std::vector<Port> ports_;
};

}  // namespace flagdit
