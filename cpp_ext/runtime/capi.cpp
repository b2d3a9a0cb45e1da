// The C interface: every exception becomes a status and a text.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>

#include "flagdit.h"
#include "flagdit/error.h"
#include "flagdit/pipeline.h"
#include "picture.h"
#include "said.h"
#include "version.h"

struct flagdit_error {
  std::string text;
};

struct flagdit_pipeline {
  flagdit::Pipeline pipeline;
  std::mutex loading;  // by the first run, where nobody asked for it before
};

struct flagdit_run {
  flagdit::Generation generation;
};

namespace {

using flagdit::Error;
using flagdit::Fault;

struct Misuse {
  const char* what;
};

flagdit_status status_of(Fault fault) {
  switch (fault) {
    case Fault::request:
      return FLAGDIT_REQUEST;
    case Fault::bundle:
      return FLAGDIT_BUNDLE;
    case Fault::backend:
      return FLAGDIT_BACKEND;
    case Fault::number:
      return FLAGDIT_NUMBER;
    case Fault::output:
      return FLAGDIT_OUTPUT;
  }
  return FLAGDIT_INTERNAL;
}

flagdit_status fail(flagdit_error** error, flagdit_status status, const char* text) {
  if (error != nullptr) *error = new (std::nothrow) flagdit_error{text};
  return status;
}

template <typename Work>
flagdit_status guarded(flagdit_error** error, Work work) {
  if (error != nullptr) *error = nullptr;
  try {
    return work();
  } catch (const Error& known) {
    return fail(error, status_of(known.fault), known.what());
  } catch (const Misuse& misuse) {
    return fail(error, FLAGDIT_MISUSE, misuse.what);
  } catch (const std::bad_alloc&) {
    return fail(error, FLAGDIT_BACKEND, "there is no memory left");
  } catch (const std::exception& fault) {
    return fail(error, FLAGDIT_INTERNAL, fault.what());
  }
}

template <typename... Pointers>
void need(Pointers... pointers) {
  if (((pointers == nullptr) || ...)) throw Misuse{"an argument is NULL that must not be"};
}

flagdit_plan_info info_of(const flagdit::Pipeline& pipeline, const flagdit::Job& job) {
  const flagdit::Layout& layout = job.run.legs.back().layout;
  const int64_t scale = pipeline.model().downscale;
  int64_t steps = 0;
  for (const flagdit::Leg& leg : job.run.legs) steps += static_cast<int64_t>(leg.plan.steps.size());
  return {layout.width * scale, layout.height * scale, static_cast<int64_t>(job.run.seeds.size()),
          steps, pipeline.memory(job).total()};
}

flagdit::Job planned(flagdit_pipeline& owner, const char* request) {
  const flagdit::Request read = flagdit::read_request(flagdit::parsed(request));
  const std::lock_guard<std::mutex> lock(owner.loading);
  return owner.pipeline.plan(read);
}

flagdit::Generation begin(flagdit_pipeline& owner, const flagdit::Job& job) {
  const std::lock_guard<std::mutex> lock(owner.loading);
  return owner.pipeline.start(job);
}

void copy_picture(const flagdit::Generation& generation, int64_t picture, uint8_t* rgb,
                  size_t size) {
  const std::vector<uint8_t> bytes = generation.picture(picture);
  if (size < bytes.size()) throw Misuse{"the memory is smaller than width * height * 3"};
  std::memcpy(rgb, bytes.data(), bytes.size());
}

}  // namespace

extern "C" {

const char* flagdit_error_text(const flagdit_error* error) {
  return error == nullptr ? "there is no memory left for the error" : error->text.c_str();
}

void flagdit_error_free(flagdit_error* error) { delete error; }

const char* flagdit_version(void) { return flagdit::kVersion; }

void flagdit_text_free(char* text) { std::free(text); }

flagdit_status flagdit_open(const char* bundle, const char* options, flagdit_pipeline** pipeline,
                            flagdit_error** error) {
  return guarded(error, [&] {
    need(bundle, pipeline);
    *pipeline = nullptr;
    const flagdit::PipelineSaid said = flagdit::read_pipeline(options == nullptr ? "{}" : options);
    std::unique_ptr<flagdit_pipeline> made(
        new flagdit_pipeline{flagdit::Pipeline(bundle, said.options), {}});
    if (said.load) made->pipeline.load();
    *pipeline = made.release();
    return FLAGDIT_OK;
  });
}

void flagdit_close(flagdit_pipeline* pipeline) { delete pipeline; }

flagdit_status flagdit_plan(flagdit_pipeline* pipeline, const char* request,
                            flagdit_plan_info* info, flagdit_error** error) {
  return guarded(error, [&] {
    need(pipeline, request, info);
    *info = info_of(pipeline->pipeline, planned(*pipeline, request));
    return FLAGDIT_OK;
  });
}

flagdit_status flagdit_run_start(flagdit_pipeline* pipeline, const char* request, flagdit_run** run,
                                 flagdit_plan_info* info, flagdit_error** error) {
  return guarded(error, [&] {
    need(pipeline, request, run);
    *run = nullptr;
    const flagdit::Job job = planned(*pipeline, request);
    if (info != nullptr) *info = info_of(pipeline->pipeline, job);
    *run = new flagdit_run{begin(*pipeline, job)};
    return FLAGDIT_OK;
  });
}

void flagdit_run_free(flagdit_run* run) { delete run; }

flagdit_status flagdit_run_step(flagdit_run* run, int64_t* left, flagdit_error** error) {
  return guarded(error, [&] {
    need(run);
    flagdit::Generation& generation = run->generation;
    if (generation.done()) throw Misuse{"the run has no step left"};
    generation.step();
    if (left != nullptr) *left = generation.total() - generation.count();
    return FLAGDIT_OK;
  });
}

flagdit_status flagdit_run_picture(const flagdit_run* run, int64_t picture, uint8_t* rgb,
                                   size_t size, flagdit_error** error) {
  return guarded(error, [&] {
    need(run, rgb);
    copy_picture(run->generation, picture, rgb, size);
    return FLAGDIT_OK;
  });
}

flagdit_status flagdit_run_save(const flagdit_run* run, int64_t picture, const char* path,
                                flagdit_error** error) {
  return guarded(error, [&] {
    need(run, path);
    flagdit::write_file(path, run->generation.png(picture));
    return FLAGDIT_OK;
  });
}

flagdit_status flagdit_run_report(const flagdit_run* run, char** json, flagdit_error** error) {
  return guarded(error, [&] {
    need(run, json);
    const std::string text = run->generation.report();
    *json = static_cast<char*>(std::malloc(text.size() + 1));
    if (*json == nullptr) throw std::bad_alloc();
    std::memcpy(*json, text.c_str(), text.size() + 1);
    return FLAGDIT_OK;
  });
}

flagdit_status flagdit_generate(flagdit_pipeline* pipeline, const char* request, uint8_t* rgb,
                                size_t size, flagdit_on_step on_step, void* user,
                                flagdit_error** error) {
  return guarded(error, [&] {
    need(pipeline, request, rgb);
    const flagdit::Job job = planned(*pipeline, request);
    const flagdit_plan_info info = info_of(pipeline->pipeline, job);
    if (info.pictures != 1)
      throw Misuse{"flagdit_generate makes one picture; start a run for several"};
    if (size < static_cast<size_t>(info.width) * static_cast<size_t>(info.height) * 3) {
      throw Misuse{"the memory is smaller than width * height * 3"};
    }
    flagdit_run run{begin(*pipeline, job)};
    while (!run.generation.done()) {
      run.generation.step();
      const int stop = on_step == nullptr
                           ? 0
                           : on_step(user, &run, run.generation.count(), run.generation.total());
      if (stop != 0) return fail(error, FLAGDIT_CANCELLED, "the run was stopped by its callback");
    }
    copy_picture(run.generation, 0, rgb, size);
    return FLAGDIT_OK;
  });
}

}  // extern "C"
