#include "../src/printable.h"
#include "../src/report.h"
#include "flagdit/error.h"
#include "flagdit/pipeline.h"
#include "flagdit/told.h"
#include "flagdit/upsample.h"
#include "picture.h"

namespace flagdit {

Generation::Generation(std::shared_ptr<const Origin> origin, Job job, Stages stages, Texts texts,
                       Decoders decoders)
    : origin_(std::move(origin)),
      job_(std::move(job)),
      decoders_(std::move(decoders)),
      run_(std::move(stages), job_.run, std::move(texts)) {}

int64_t Generation::width() const {
  return job_.run.legs.back().layout.width * origin_->numbers.downscale;
}
int64_t Generation::height() const {
  return job_.run.legs.back().layout.height * origin_->numbers.downscale;
}

const StepDone& Generation::step() {
  steps_.push_back(run_.step());
  legs_.push_back(run_.leg());
  return steps_.back();
}

std::vector<uint8_t> Generation::picture(int64_t sample) const {
  if (sample < 0 || sample >= samples()) {
    throw Error(Fault::request, "there is no picture " + std::to_string(sample) + "; there are " +
                                    std::to_string(samples()) + ", from 0 on");
  }
  if (steps_.empty()) throw Error(Fault::request, "the run has not begun; do a step first");
  const Layout& layout = run_.sampler()->state().extent.layout;
  std::vector<float> latents = run_.latents(done() ? 0.0 : 1.0 - steps_.back().step.t_next);
  const int64_t size = layout.values();
  std::vector<float> own =
      decoded({1,
               layout.channels,
               layout.height,
               layout.width,
               {latents.begin() + sample * size, latents.begin() + (sample + 1) * size}});
  const int64_t factor = job_.run.legs.back().layout.width / layout.width;
  const int64_t scale = origin_->numbers.downscale;
  if (factor > 1) own = upsample(own, 3, layout.height * scale, layout.width * scale, factor);
  if (job_.run.canvas) job_.run.canvas->keep(own);
  return to_bytes(own.data(), width(), height());
}

std::vector<float> Generation::decoded(Images latents) const {
  if (origin_->space == "pixels") return std::move(latents.values);
  const bool rough = !done() && decoders_.preview != nullptr;
  Session& session = rough ? *decoders_.preview : *decoders_.decode;
  return decode(session, latents, origin_->numbers.downscale, rough ? 0 : job_.run.tile).values;
}

std::string Generation::png(int64_t sample) const {
  const Ordered about = about_of({*origin_, job_, run_, steps_, legs_}, sample);
  return to_png(picture(sample), width(), height(),
                {{"parameters", parameters(about)}, {"flagdit", about.dump()}});
}

std::string Generation::report() const { return report_of({*origin_, job_, run_, steps_, legs_}); }

}  // namespace flagdit
