// The loop: from noise to latents, one step at a time. All that can be decided beforehand is in the
// plan; the state of a run is its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "flagdit/buffers.h"
#include "flagdit/make_plan.h"
#include "flagdit/session.h"

namespace flagdit {

// What calls of `denoise` take besides the tokens, by its names. Owned by the caller.
struct Conditions {
  std::vector<Bound> constant;  // over the run: (R, ...), or without rows
  std::vector<Bound> timed;     // (E, R, ...): an entry an evaluation of the plan
  std::vector<Bound> placed;    // by token, (N, ...)
};

// A step that was done. It is as it was planned unless the run decides (Budget).
struct StepDone {
  Step step;
  int64_t evaluations;   // of the velocity; a step that the gate passed over made none
  int64_t branches;      // of guidance that it computed
  double denoise, host;  // seconds of calls of `denoise`, and of the work between them
};

class Sampler {
 public:
  // guidance: (P,), the scale of every value of a patch. start: latents (B, C, F, H, W). What the
  // conditions view must stay; the plan and the session are kept. Throws std::invalid_argument or
  // Error(bundle) if they do not fit together.
  Sampler(std::shared_ptr<Session> denoise, const Extent& extent, std::shared_ptr<const Plan> plan,
          Conditions conditions, const std::vector<float>& guidance, const float* start);

  // Bytes of a run's state, before there is one.
  static int64_t bytes(const Session& denoise, const Extent& extent, const Plan& plan,
                       const Conditions& conditions);

  bool done() const { return next_ == plan_->steps.size(); }
  // The next step. Throws Error if `denoise` fails, and std::invalid_argument after that, within a
  // step, and when all are done.
  StepDone step(Stream stream = nullptr);

  const Buffers& state() const { return buffers_; }
  const Plan& plan() const { return *plan_; }

 private:
  // What one call of `denoise` reads, at fixed addresses: (rows, ...) of this evaluation.
  using Current = std::vector<Bound>;

  StepDone do_step(Stream stream);
  double call(int64_t active, size_t evaluation, size_t calls, Stream stream);
  Binding& bound(int64_t active, size_t call);
  void advance(const Step& step, const Evaluation& evaluation, Stream stream);
  void repartition(const Step& step, size_t calls, Stream stream);
  void remember(const Step& step, size_t calls, Stream stream);
  void retarget(const Step& step, double t, size_t calls, Stream stream);
  void guide(int64_t active, size_t calls);
  void select_head(const Step& step, Stream stream);

  std::shared_ptr<Session> denoise_;
  std::shared_ptr<const Plan> plan_;
  Conditions conditions_;
  Arena arena_;
  Buffers buffers_;
  Tensor guidance_;
  std::vector<Current> current_;  // of each call
  std::vector<SlotBuffers> moved_;
  std::vector<std::vector<CacheForecast>> forecasts_;  // of each call
  std::vector<std::pair<int64_t, double>> fresh_;      // of each call: slots, and when
  std::map<std::pair<int64_t, size_t>, std::unique_ptr<Binding>> bindings_;  // by active and call
  std::atomic<bool> under_way_{false};
  size_t next_ = 0, evaluation_ = 0;
  bool owed_ = false;  // a step that was to run both branches, and that the gate left out
};

}  // namespace flagdit
