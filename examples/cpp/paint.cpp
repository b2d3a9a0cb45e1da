// A picture of a sentence, with a line for every step: paint BUNDLE "a red apple" out.png
#include <flagdit/error.h>
#include <flagdit/pipeline.h>

#include <cstdio>
#include <fstream>

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s BUNDLE PROMPT PICTURE.png\n", argv[0]);
    return 2;
  }
  try {
    flagdit::Pipeline pipeline(argv[1]);

    flagdit::Request request;
    request.prompts = {argv[2]};
    request.seeds = {7};
    request.options.preset = "quality";

    const flagdit::Job job = pipeline.plan(request);  // refused here, before anything is loaded
    std::printf("%lld MB of memory at most\n",
                static_cast<long long>(pipeline.memory(job).total() >> 20));

    flagdit::Generation generation = pipeline.start(job);
    while (!generation.done()) {
      const flagdit::StepDone& done = generation.step();
      std::printf("step %lld of %lld: %lld tokens\n", static_cast<long long>(generation.count()),
                  static_cast<long long>(generation.total()),
                  static_cast<long long>(done.step.active));
    }
    std::ofstream(argv[3], std::ios::binary) << generation.png();
    return 0;
  } catch (const flagdit::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
