// A bundle that turns prompts into pictures, without Python.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "flagdit/autoencoder.h"
#include "flagdit/bundle.h"
#include "flagdit/job.h"

namespace flagdit {

struct PipelineOptions {
  std::optional<int64_t> threads{};  // of the engine; all cores, unless said
  // float32, int8 or int8-bf16, on a GPU float16 or bfloat16; the fastest that there is
  std::optional<std::string> precision{};
  std::string device = "auto";          // cpu, cuda, or a GPU if one can be used
  std::string backend = "onnxruntime";  // or tensorrt, for engines that were built for this GPU
  std::optional<int64_t> max_memory{};  // bytes that the process may hold
  // The library of ONNX Runtime, or the folder that it is in: by default $FLAGDIT_ONNXRUNTIME, then
  // what the system finds.
  std::string onnxruntime{};
  std::string tensorrt{};  // the library of TensorRT; by default what the system finds
};

class Generation;
struct Origin;

// Graphs that make pictures of latents; null where a bundle has none.
struct Decoders {
  std::shared_ptr<Session> decode, preview;
};

// Threads may share it once it is loaded: it holds no state of a run.
class Pipeline {
 public:
  // Reads the manifest and the tokenizer, and no graph or weight. Throws Error.
  explicit Pipeline(const std::string& bundle, PipelineOptions options = {});

  const Bundle& bundle() const { return bundle_; }
  const Model& model() const { return model_; }
  const std::string& precision() const { return precision_; }  // what `denoise` computes in
  Device device() const { return device_; }                    // that it runs on
  bool loaded() const { return stages_.denoise != nullptr; }

  // A request, checked, planned and admitted: it fits the model, its prompts are short enough, and
  // what it takes of memory is there. Throws Error(request).
  Job plan(const Request& request) const;
  // What it takes.
  Memory memory(const Job& job) const;

  // About what the largest of its text encoders takes, which is loaded and let go before the steps;
  // 0 where all of them stay, as small ones do.
  int64_t encoder_memory() const;

  // Loads graphs and weights. Throws Error if a byte of them is not what the manifest says, or the
  // backend is not there.
  void load();
  // Throws Error(backend) unless the model ends in pictures: in pixels, or in latents that its bundle
  // decodes.
  void check_paints() const;
  // A run. last: of this pipeline, which lets go of what the run needs no more, as soon as it does
  // not.
  Generation start(const Job& job, bool last = false);

 private:
  Place place() const;
  Device chosen_device();
  const EngineSpec* chosen_engine() const;
  const OnnxRuntime& runtime();
  std::vector<std::shared_ptr<Session>> encoders();
  std::shared_ptr<Session> open_engine(std::map<std::string, Content>& weights);

  PipelineOptions options_;
  Bundle bundle_;
  Model model_;
  Prompts prompts_;
  std::shared_ptr<const OnnxRuntime> runtime_;  // once it was needed
  Gpu gpu_;                                     // if one was looked for
  Device device_;
  const EngineSpec* engine_;  // of denoise; null is the model's own graph
  std::string precision_;
  Stages stages_;
  Decoders decoders_;
  int64_t loaded_ = 0;  // bytes that the process held when it had loaded the engine
};

// One run of a pipeline, and what it did.
class Generation {
 public:
  int64_t width() const;   // pixels
  int64_t height() const;  // pixels
  int64_t samples() const { return static_cast<int64_t>(job_.run.seeds.size()); }
  int64_t total() const { return run_.total(); }  // steps
  int64_t count() const { return run_.count(); }  // that are done
  bool done() const { return run_.done(); }
  const Job& job() const { return job_; }

  // The next step. Throws Error if the engine fails or values are no numbers any more.
  const StepDone& step();

  // Bytes (H, W, 3) of a picture: what it would be if every velocity stayed as it is now. Of a model
  // with an autoencoder, before the end by its graph for previews, if it has one. Throws
  // Error(backend) if the model ends in latents and its bundle has no graph that decodes them.
  std::vector<uint8_t> picture(int64_t sample = 0) const;
  // A PNG of it, with how it was made.
  std::string png(int64_t sample = 0) const;
  // What was asked for, planned and measured, as report.json has it.
  std::string report() const;

 private:
  friend class Pipeline;
  Generation(std::shared_ptr<const Origin> origin, Job job, Stages stages, Texts texts,
             Decoders decoders);
  std::vector<float> decoded(Images latents) const;

  std::shared_ptr<const Origin> origin_;
  Job job_;
  Decoders decoders_;
  Run run_;
  std::vector<StepDone> steps_;
  std::vector<size_t> legs_;  // that each step was of
};

}  // namespace flagdit
