// What a step enqueues: with the same work, the same launches at the same addresses, so that it can
// be captured.
#include <algorithm>

#include "flagdit/dilate.h"
#include "flagdit/finite.h"
#include "flagdit/guide.h"
#include "flagdit/renormalise.h"
#include "flagdit/sampler.h"
#include "flagdit/select.h"
#include "parts.h"

namespace flagdit {

void Sampler::enqueue(const Work& work) {
  const Step& step = work.step;
  if (step.dense) {
    parts_->forecasts.remember(work, parts_->tables.entry, stream_);
  } else if (step.index > 0 && step.active > 0) {
    select_head(step);
    moved_[work.calls - 1].swap(buffers_.swaps, buffers_.counts, stream_);
    parts_->forecasts.repartition(work, parts_->tables.entry, stream_);
  }
  for (size_t e = work.first; e < work.end; ++e) {
    const Evaluation& evaluation = plan_->evaluations[e];
    if (step.active > 0) {
      if (e > work.first) parts_->forecasts.retarget(work, parts_->tables.entry, stream_);
      if (parts_->kept) parts_->kept->aim(work, e);
      spent_ += parts_->calls.run(step.active, work.calls, parts_->tables.entry,
                                  parts_->kept ? &parts_->kept->tails() : nullptr, stream_);
      guide(step.active, work.calls);
      renormalise(step.active);
    }
    advance(work, evaluation.last);
    if (evaluation.last) parts_->log.keep(parts_->tables.entry, stream_);
    tick(parts_->tables.entry, stream_);
  }
  if (device() == Device::cpu) return;
  const int64_t n = buffers_.latent.shape[0];
  count_broken(slots_of(buffers_.latent, plan_->pinned, n - plan_->pinned), parts_->broken,
               stream_);
}

void Sampler::guide(int64_t active, size_t calls) {
  if (!buffers_.difference) return;
  GuideArgs args{slots_of(buffers_.calls[0].output, 0, active),
                 {},
                 parts_->guidance,
                 *buffers_.difference,
                 *buffers_.guided};
  if (calls > 1) args.unconditional = slots_of(buffers_.calls[1].output, 0, active);
  if (calls > 2) {
    args.skipping = slots_of(buffers_.calls[2].output, 0, active);
    args.skip_guidance = parts_->skipping;
  }
  flagdit::guide(args, stream_);
}

void Sampler::renormalise(int64_t active) {
  if (!buffers_.norms) return;
  const Extent& extent = buffers_.extent;
  RenormaliseArgs args{slots_of(buffers_.calls[0].output, 0, active),
                       {},
                       parts_->guidance,
                       buffers_.token,
                       *buffers_.norms,
                       *buffers_.factors,
                       NormGroups::of(extent.layout, extent.renormalise),
                       plan_->pinned};
  if (buffers_.guided) args.guided = slots_of(*buffers_.guided, 0, active);
  flagdit::renormalise(args, stream_);
}

void Sampler::advance(const Work& work, bool last) {
  const Layout& layout = buffers_.extent.layout;
  // A step without a call of `denoise` moves everything along.
  const int64_t active = std::max(work.step.active, plan_->pinned);
  AdvanceArgs args{
      slots_of(buffers_.guided ? *buffers_.guided : buffers_.calls[0].output, 0, active),
      parts_->guidance,
      buffers_.velocity,
      buffers_.latent,
      buffers_.tokens,
      buffers_.score,
      buffers_.age,
      buffers_.drops,
      0.0f,  // the table has it
      plan_->pinned,
      layout.channels,
      plan_->ranking.metric,
      last,
      buffers_.history,
      StepTable{parts_->tables.numbers, parts_->tables.entry}};
  if (args.history) {
    args.history->forecast =
        plan_->forecast.order > 0 ? static_cast<float>(plan_->forecast.clamp) : 0.0f;
    args.history->keep_norm = plan_->forecast.keep_norm;
  }
  args.known = buffers_.known;
  args.known_velocity = buffers_.known_velocity;
  flagdit::advance(args, stream_);
  const auto share = static_cast<float>(plan_->ranking.dilation);
  if (share > 0.0f && last)
    dilate({buffers_.score, buffers_.token, buffers_.grid, layout.stride(), plan_->pinned, share},
           stream_);
}

void Sampler::select_head(const Step& step) {
  select({buffers_.score, buffers_.age, buffers_.drops, buffers_.token, parts_->tables.future,
          buffers_.swaps, buffers_.counts, buffers_.codes, step.active, plan_->pinned,
          static_cast<float>(plan_->ranking.starvation), step.high, plan_->max_age,
          plan_->ranking.mode, parts_->tables.entry},
         stream_);
}

}  // namespace flagdit
