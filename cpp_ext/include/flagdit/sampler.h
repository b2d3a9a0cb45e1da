// The loop: from noise to latents, one step at a time. All that can be decided beforehand is in the
// plan; the state of a run is its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "flagdit/buffers.h"
#include "flagdit/device.h"
#include "flagdit/make_plan.h"
#include "flagdit/session.h"
#include "flagdit/snapshot.h"

namespace flagdit {

class Captures;
struct Parts;
struct Work;

// What calls of `denoise` take besides the tokens, by its names. In memory of the host, owned by
// the caller.
struct Conditions {
  std::vector<Bound> constant;  // over the run: (R, ...), or without rows
  std::vector<Bound> timed;     // (E, R, ...): an entry an evaluation of the plan
  std::vector<Bound> placed;    // by token, (N, ...)
  // By phase of the plan, after the first: what takes the place of `placed`, and of constants.
  std::map<int64_t, std::vector<Bound>> later{};
};

// A step that was done, or on a GPU enqueued. It is as it was planned unless the run decides
// (Budget).
struct StepDone {
  Step step;
  int64_t evaluations;   // of the velocity; a step that the gate passed over made none
  int64_t branches;      // of guidance that it computed
  double denoise, host;  // seconds of calls of `denoise`, and of the work between them; on a GPU
                         // that of the host, see Sampler::seconds
  int64_t launched = 0;  // nodes of the captured graph that it replays or is the first to launch;
                         // 0: it was launched piece by piece
};

// Patches that stay, of all samples, and the velocities to them.
struct Known {
  std::vector<uint8_t> patches;  // (patches,)
  std::vector<float> velocity;   // (B, C, F, H, W)
};

class Sampler {
 public:
  // guidance: (P,), the scale of every value of a patch; of a plan that skips layers (2, P), its scale
  // behind it. start: latents (B, C, F, H, W). What the
  // conditions view must stay; the plan and the session are kept. known: where the plan keeps it.
  // Throws std::invalid_argument or Error(bundle) if they do not fit together.
  Sampler(std::shared_ptr<Session> denoise, const Extent& extent, std::shared_ptr<const Plan> plan,
          Conditions conditions, const std::vector<float>& guidance, const float* start,
          const Known* known = nullptr, Block before = {});
  ~Sampler();
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Whether `again` can be a run of these: all but the values of the conditions is the same.
  bool fits(const Session& denoise, const Extent& extent, const Plan& plan,
            const Conditions& conditions) const;
  // Begins anew, in the same memory, with what was captured before.
  void again(Conditions conditions, const std::vector<float>& guidance, const float* start,
             const Known* known = nullptr);

  // Bytes of a run's state, where `denoise` runs, before there is one.
  static int64_t bytes(Session& denoise, const Extent& extent, const Plan& plan,
                       const Conditions& conditions);

  bool done() const { return next_ == plan_->steps.size(); }
  // The next step. On a GPU it is enqueued when this returns; a plan that decides as it runs waits
  // for the step before. Throws Error if `denoise` fails, and std::invalid_argument after that,
  // within a step, and when all are done.
  StepDone step();

  const Buffers& state() const { return buffers_; }
  const Plan& plan() const { return *plan_; }
  Device device() const { return arena_.device(); }
  int64_t state_bytes() const { return arena_.used(); }
  Block block() const { return arena_.block(); }

  // See Buffers; on a GPU they wait for the steps that are enqueued.
  void latents(float* out, double ahead) const;
  void ages(int16_t* out) const;
  // What there is to see after the last step, `ahead` in time as in `latents`. Waits for nothing.
  std::shared_ptr<const Snapshot> snapshot(double ahead);
  size_t count() const { return next_; }  // of steps that were done
  // (steps, B, F, H, W) in patches: the ages after each of the first steps.
  void all_ages(size_t steps, int16_t* out) const;
  // Values of the latent that are infinite or NaN, of all steps together. On a CPU it is 0: who
  // steps looks at every step (numbers.cpp).
  int64_t broken() const;
  // Of each step that was done, as the device took them, once all of them are over.
  std::vector<double> seconds() const;
  // Why steps are launched piece by piece though they run on a GPU; empty if they need not be.
  const std::string& plain() const;

 private:
  std::vector<Work> known_works() const;
  void begin(const std::vector<float>& guidance, const float* start, const Known* known);
  void place_anew(int64_t phase);
  StepDone do_step();
  void enqueue(const Work& work);
  void guide(int64_t active, size_t calls);
  void renormalise(int64_t active);
  void advance(const Work& work, bool last);
  void select_head(const Step& step);
  std::unique_lock<std::mutex> turn() const;

  std::shared_ptr<Session> denoise_;
  std::shared_ptr<const Plan> plan_;
  Stream stream_;
  Conditions conditions_;
  Arena arena_;
  Buffers buffers_;
  std::unique_ptr<Parts> parts_;
  std::unique_ptr<Captures> captures_;
  std::vector<SlotBuffers> moved_;
  Snapshots snapshots_;
  std::vector<Event> events_;  // before the first step, and after each
  std::atomic<bool> under_way_{false};
  size_t next_ = 0, evaluation_ = 0;
  double spent_ = 0.0;  // seconds of the calls of a step
  bool owed_ = false;   // the unconditional branch of a step that the gate left out
};

}  // namespace flagdit
