#include "command.h"

#include <algorithm>

#include "../src/printable.h"
#include "flagdit/error.h"
#include "version.h"

namespace flagdit {
namespace {

// Such as 512M. Throws Error(request).
int64_t bytes_of(const std::string& text) {
  const size_t end = text.find_first_not_of("0123456789");
  const std::string unit = end == std::string::npos ? "" : text.substr(end, 1);
  const size_t scale = std::string("KMG").find(unit.empty() ? 'B' : unit[0]);
  const bool known = unit.empty() || (scale != std::string::npos &&
                                      (end + 1 == text.size() || text.substr(end + 1) == "B"));
  if (end == 0 || text.empty() || text.size() > 14 || !known) {
    throw Error(Fault::request, "max-memory is " + in_quotes(text) +
                                    "; allowed are bytes, or a number of K, M or G, such as 512M");
  }
  const int64_t number = std::stoll(text.substr(0, end));
  const int shift = unit.empty() ? 0 : 10 * (static_cast<int>(scale) + 1);
  return number > (INT64_MAX >> shift) ? INT64_MAX : number << shift;
}

// An option whose text is an option of the request, of the same name with _ for -.
void add_text(CLI::App& app, Command& command, const std::string& name, const std::string& metavar,
              const std::string& help) {
  std::string key = name;
  std::replace(key.begin(), key.end(), '-', '_');
  app.add_option_function<std::string>(
         "--" + name, [&command, key](const std::string& text) { command.request[key] = text; },
         help)
      ->type_name(metavar);
}

void add_flag(CLI::App& app, Command& command, const std::string& name, const std::string& help) {
  app.add_flag_callback("--" + name, [&command, name] { command.request[name] = true; }, help);
}

void add_sampling(CLI::App& app, Command& command) {
  const auto text = [&](const char* name, const char* metavar, const char* help) {
    add_text(app, command, name, metavar, help);
  };
  text("preset", "NAME",
       "quality, balanced (the default), fast, or another that the bundle was calibrated for");
  text("steps", "N", "Steps from noise to picture; by default the preset's");
  text("shift", "X", "Time shift: above 1, steps are short at the start and long at the end");
  text("times", "0,...,1",
       "The times that the steps lie between, instead of a number of steps and a shift");
  text("solver", "NAME", "euler, ab2, midpoint or heun");
  text("size", "WxH", "In pixels; the model's own by default");
  text("seed", "N|random", "The same seed gives the same picture; 0 to 2^64 - 1");
  text("guidance", "X", "How strictly to follow the prompt; 1 turns it off");
  text("skip-layer-guidance", "SCALE[:START[:STOP[:LAYERS]]]",
       "Lead away from what the model says without some of its layers, too; try 2.8");
  text("negative", "TEXT", "What the picture should not show");
  text("ratio", "R|FROM:TO", "Share of the picture that a RAS step recomputes");
  text("error-budget", "X",
       "Let steps recompute more, until what is kept is off by no more than this on average");
  text("forecast-kv", "SHARE",
       "Move old keys and values along their line by this share of the way; 0 turns it off");
  text("guidance-every", "K",
       "Run the unconditional branch only in each K-th step after the first half");
  text("guidance-warmup", "STEPS", "With --guidance-every: first steps that run both branches");
  text("coarse", "FACTOR[:STEPS[:UNTIL]]", "Begin with a smaller picture; 1 is none");
  text("mode", "NAME", "corrected, or paper, which does what the published code does");
  text("schedule", "PATCHES/STEPS", "Recompute so many patches fewer every so many steps");
  text("ntk", "auto|FACTOR|off", "For sizes beyond training: scale RoPE; auto is the model's rule");
  text("image", "PNG", "A picture to begin with");
  text("strength", "X", "How much of the way from noise is gone; by default .6, with a mask 1");
  text("mask", "PNG", "White where the image is painted anew; the rest of it stays");
  text("tile", "PIXELS|auto|off", "Decode in tiles of that side, which take less memory");
  add_flag(app, command, "dense", "Recompute everything in every step");
  add_flag(app, command, "proportional",
           "For sizes beyond training: a softmax that sharpens with the number of tokens");
  app.add_option_function<std::vector<std::string>>(
         "--ras",
         [&command](const std::vector<std::string>& fields) { command.request["ras"] = fields; },
         "Change one more thing of region-adaptive sampling; may be given again (docs/ras.md)")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
}

}  // namespace

void add_options(CLI::App& app, Command& command) {
  app.set_version_flag("--version", std::string("flagdit ") + kVersion);
  app.add_option("bundle", command.bundle, "A bundle's directory")->type_name("BUNDLE")->required();
  app.add_option("prompts", command.prompts, "What the picture should show; a picture for each")
      ->type_name("PROMPT");
  app.add_option("-o,--output", command.output,
                 "The PNG to write; several are numbered, where the name has %04d, or in a folder")
      ->type_name("PATH")
      ->capture_default_str();
  app.add_option("--prompts", command.file, "A text file, one prompt a line, # before a comment")
      ->type_name("FILE");
  app.add_option("--count", command.count,
                 "Pictures of each prompt, of the seeds that follow each other")
      ->type_name("N");
  add_sampling(app, command);
  app.add_option("--threads", command.pipeline.threads, "CPU threads; all cores by default")
      ->type_name("N");
  app.add_option("--device", command.pipeline.device,
                 "cpu, cuda, or auto: a GPU if one can be used")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--backend", command.pipeline.backend,
                 "onnxruntime, or tensorrt for engines that were built for this GPU")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--precision", command.pipeline.precision,
                 "float32, int8 or int8-bf16, on a GPU float16 or bfloat16; the fastest by default")
      ->type_name("NAME");
  app.add_option_function<std::string>(
         "--max-memory",
         [&command](const std::string& text) { command.pipeline.max_memory = bytes_of(text); },
         "Refuse what takes more: bytes, or a number of K, M or G")
      ->type_name("BYTES");
  app.add_option("--onnxruntime", command.pipeline.onnxruntime,
                 "ONNX Runtime's library or the folder that it is in; by default "
                 "$FLAGDIT_ONNXRUNTIME, then the system's")
      ->type_name("PATH");
  app.add_option("--tensorrt", command.pipeline.tensorrt,
                 "TensorRT's library, libnvinfer; by default the system's")
      ->type_name("PATH");
  app.add_option(
         "--report", command.report,
         "Write what was planned and measured, as JSON; of several pictures one each, of the "
         "same number")
      ->type_name("PATH");
  app.add_option_function<std::string>(
         "--map",
         [](const std::string&) {
           throw Error(
               Fault::request,
               "flagdit_run draws no maps; leave --map out, or use flagdit generate, which does");
         })
      ->group("");  // not shown in the help: it is there to be answered
  app.add_flag("--plan", command.plan, "Show the steps and what they take, and compute nothing");
  app.add_flag("--inspect", command.inspect,
               "Show what the bundle is, with every file of it checked");
  app.add_flag("--verify", command.verify,
               "Read every byte of the bundle, and name the files that are not what it says");
  app.add_flag("-q,--quiet", command.quiet, "Say nothing but errors");
}

}  // namespace flagdit
