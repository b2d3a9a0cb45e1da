// The runtime without ONNX Runtime, as on a machine that has none: text, bundle, plans, and the
// loop over a session of our own. tests/runtime/fixtures.json is what Python's libraries say
// (tests/test_fixtures.py).
#include <sys/resource.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>

#include "check.h"
#include "flagdit.h"
#include "flagdit/digest.h"
#include "flagdit/error.h"
#include "flagdit/pipeline.h"
#include "flagdit/room.h"
#include "toy.h"

namespace {

using flagdit::Error;
using nlohmann::json;

std::string g_demo, g_fixtures;  // where they are

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  check::that(file.good(), path + " cannot be read");
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void tokens_are_those_of_the_library() {
  const auto tokenizer =
      flagdit::Tokenizer::read("tokenizer.json", content_of(g_demo + "/tokenizer.json"));
  const json fixtures = json::parse(content_of(g_fixtures));
  for (const json& entry : fixtures.at("tokens")) {
    const auto ids = tokenizer.encode(entry.at("text").get<std::string>());
    check::that(ids == entry.at("ids").get<std::vector<int64_t>>(),
                "other tokens of " + entry.at("text").dump());
  }
}

void plans_are_those_of_python() {
  const json fixtures = json::parse(content_of(g_fixtures));
  flagdit_pipeline* pipeline = nullptr;
  check::that(
      flagdit_open(g_demo.c_str(), "{\"load\": false, \"precision\": \"float32\", \"threads\": 1}",
                   &pipeline, nullptr) == FLAGDIT_OK,
      "open");
  for (const json& entry : fixtures.at("plans")) {
    flagdit_plan_info info{};
    flagdit_error* error = nullptr;
    const auto status = flagdit_plan(pipeline, entry.at("request").dump().c_str(), &info, &error);
    check::that(status == FLAGDIT_OK, error == nullptr ? "plan" : flagdit_error_text(error));
    check::that(
        info.steps == entry.at("steps") && info.width == entry.at("size")[0] &&
            info.bytes == entry.at("bytes"),
        "another plan of " + entry.at("request").dump() + ": " + std::to_string(info.bytes));
  }
  flagdit_close(pipeline);
}

void a_bundle_is_checked_to_the_last_byte() {
  const auto bundle = flagdit::Bundle::open(g_demo);
  bundle.check();
  check::that(flagdit::sha256("abc", 3) ==
                  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
              "SHA-256");
}

void a_manifest_that_is_cut_is_refused() {
  const std::string content = content_of(g_demo + "/manifest.json");
  for (size_t end = 0; end + 2 < content.size(); end += 97) {
    check::throws<Error>([&] { flagdit::read_manifest("manifest.json", content.substr(0, end)); },
                         "manifest.json: ");
  }
}

void misuse_has_a_status() {
  flagdit_error* error = nullptr;
  flagdit_pipeline* pipeline = nullptr;
  check::that(
      flagdit_open(nullptr, nullptr, &pipeline, &error) == FLAGDIT_MISUSE && error != nullptr,
      "a NULL");
  flagdit_error_free(error);
  check::that(flagdit_open("/nowhere", nullptr, &pipeline, &error) == FLAGDIT_BUNDLE, "no bundle");
  check::that(
      std::string(flagdit_error_text(error)).find("no such bundle directory") != std::string::npos,
      "its text");
  flagdit_error_free(error);
  for (const char* options : {"{", "[]", "{\"threads\": \"x\"}", "{\"other\": 1}",
                              "{\"precision\": \"fp4\"}", "{\"threads\": 0}"}) {
    check::that(flagdit_open(g_demo.c_str(), options, &pipeline, nullptr) != FLAGDIT_OK &&
                    pipeline == nullptr,
                options);
  }
  check::that(flagdit_open(g_demo.c_str(), "{\"load\": false}", &pipeline, nullptr) == FLAGDIT_OK,
              "open");
  flagdit_plan_info info{};
  for (const char* request :
       {"", "{}", "{\"prompt\": \"\"}", "{\"prompt\": 3}", "{\"prompt\": \"a\", \"steps\": 0}",
        "{\"prompt\": \"a\", \"size\": \"1x1\"}", "{\"prompt\": \"a\", \"ras\": [\"x\"]}",
        "{\"prompt\": \"a\", \"seed\": -1}", "{\"prompt\": \"a\", \"what\": 1}"}) {
    check::that(flagdit_plan(pipeline, request, &info, nullptr) == FLAGDIT_REQUEST, request);
  }
  flagdit_close(pipeline);
}

void memory_is_refused_before_anything_is_loaded() {
  flagdit::PipelineOptions options;
  options.max_memory = int64_t{1} << 20;
  const flagdit::Pipeline pipeline(g_demo, options);
  flagdit::Request request;
  request.prompts = {"a red apple"};
  request.seeds = {0};
  check::throws<Error>([&] { pipeline.plan(request); }, "of memory are needed");
}

flagdit::RunOptions toy_options(const std::vector<double>& phases = {}) {
  flagdit::Layout layout;
  layout.height = layout.width = 16;
  layout.channels = 3;
  layout.patch_height = layout.patch_width = 2;
  layout.closes_lines = true;
  flagdit::PlanRequest plan;
  plan.steps = int64_t{8};
  plan.solver = flagdit::Solver::ab2;
  plan.regions.budget.ratio = flagdit::Number(0.5);
  plan.regions.budget.warmup = 2;
  plan.tokens = layout.tokens();
  plan.pinned = layout.pinned();
  plan.phases = phases;
  flagdit::RunOptions options;
  options.legs.push_back({layout, flagdit::make_plan(plan)});
  options.seeds = {7};
  return options;
}

flagdit::Run toy_run(const std::shared_ptr<toy::Denoise>& denoise,
                     const std::vector<double>& phases = {}) {
  return flagdit::Run(toy::stages(denoise), toy_options(phases), {{{{{1, 2}}, "the text"}}, {0}});
}

// The velocity 2 - t is a line, which ab2 follows but for its first step: the latents move by 1.5.
void a_session_of_our_own_paints() {
  const auto denoise = std::make_shared<toy::Denoise>();
  flagdit::Run run = toy_run(denoise);
  run.step();
  const std::vector<float> begun = run.latents();
  while (!run.done()) run.step();
  const std::vector<float> latents = run.latents();
  check::that(denoise->calls == 8 && denoise->late == 0, "calls");
  for (size_t i = 0; i < latents.size(); ++i) {
    check::that(std::isfinite(latents[i]) && latents[i] > begun[i], "latents move");
  }
}

// Of 8 even steps the fourth, at .375, is the first after .3: it is dense, and all places are new.
void tokens_are_placed_anew() {
  const auto denoise = std::make_shared<toy::Denoise>();
  flagdit::Run run = toy_run(denoise, {0.0, 0.3});
  const flagdit::Plan& plan = run.options().legs.front().plan;
  const flagdit::Plan plain = toy_options().legs.front().plan;
  for (size_t i = 0; i < 8; ++i) {
    check::that(plan.phase[i] == (i < 3 ? 0 : 1), "phase");
    check::that(plan.steps[i].active == (i == 3 ? plan.tokens : plain.steps[i].active), "active");
  }
  check::that(!plain.steps[3].dense, "a step that would not be dense");
  while (!run.done()) run.step();
  check::that(denoise->misplaced == 0 && denoise->late == 5, "places");
  flagdit::Run again = toy_run(denoise);
  while (!again.done()) again.step();
  check::that(denoise->misplaced == 0 && denoise->late == 5, "places of a run after it");
}

void runs_that_are_stopped_or_share_a_session_are_their_own() {
  const auto denoise = std::make_shared<toy::Denoise>();
  flagdit::Run alone = toy_run(denoise);
  while (!alone.done()) alone.step();
  const std::vector<float> expected = alone.latents();
  std::vector<std::thread> threads;
  std::atomic<int> same{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 20; ++k) {
        flagdit::Run stopped = toy_run(denoise);
        stopped.step();
        flagdit::Run run = toy_run(denoise);
        while (!run.done()) run.step();
        same += run.latents() == expected ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  check::that(same == 80, "another picture beside others: " + std::to_string(same));
}

void a_thousand_runs_take_no_more_memory() {
  const auto denoise = std::make_shared<toy::Denoise>();
  int64_t before = 0;
  for (int i = 0; i < 1000; ++i) {
    flagdit::Run run = toy_run(denoise);
    while (!run.done()) run.step();
    if (i == 200) before = flagdit::resident();
  }
  const int64_t grown = flagdit::resident() - before;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const int64_t most = int64_t{1} << 30;  // what is freed is kept for a while, to be watched
#else
  const int64_t most = int64_t{1} << 20;
#endif
  check::that(grown < most, "grown by " + std::to_string(grown) + " bytes");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  g_demo = argv[1];
  g_fixtures = argv[2];
  return check::run(
      {{"tokens are those of the library", tokens_are_those_of_the_library},
       {"plans are those of Python", plans_are_those_of_python},
       {"a bundle is checked to the last byte", a_bundle_is_checked_to_the_last_byte},
       {"a manifest that is cut is refused", a_manifest_that_is_cut_is_refused},
       {"misuse has a status", misuse_has_a_status},
       {"memory is refused before anything is loaded", memory_is_refused_before_anything_is_loaded},
       {"a session of our own paints", a_session_of_our_own_paints},
       {"tokens are placed anew", tokens_are_placed_anew},
       {"runs that are stopped, or share a session, are their own",
        runs_that_are_stopped_or_share_a_session_are_their_own},
       {"a thousand runs take no more memory", a_thousand_runs_take_no_more_memory}});
}
