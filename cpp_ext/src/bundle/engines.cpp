#include "flagdit/engines.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <utility>

#include "../printable.h"
#include "flagdit/amx.h"
#include "flagdit/error.h"

namespace flagdit {
namespace {

constexpr int64_t kMaxThreads = 1024;
const std::vector<std::string> kPrecisions = {"int8-bf16", "int8", "float32"};  // fastest first

const char* needs(const std::string& precision) {
  return precision == "int8" ? "int8 dot products (VNNI or AMX on x86, dotprod on ARM)"
                             : "tiles of int8 and bf16 (AMX), or its system does not lend them";
}

bool suits(const std::string& precision, const Cpu& cpu) {
  return precision == "float32" || (precision == "int8" ? cpu.int8 : cpu.tiles);
}

// The last one of a precision, as Python has it.
const EngineSpec* find(const Manifest& manifest, const std::string& precision) {
  const EngineSpec* found = nullptr;
  for (const EngineSpec& engine : manifest.engines) {
    const bool own = engine.target == "onnxruntime" && engine.graph == "denoise";
    if (own && engine.precision == precision && precision != "float32") found = &engine;
  }
  return found;
}

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

// Why an engine cannot run here; empty if it can.
std::string obstacle(const EngineSpec& engine, const Cpu& cpu) {
  if (engine.graph != "denoise")
    return "flagdit runs no " + engine.graph + " in an engine of its own";
  if (engine.target == "onnxruntime-cuda") return "it is for a GPU; run it with --device cuda";
  if (engine.target != "onnxruntime")
    return "it is for a GPU; run it with --device cuda --backend " + engine.target;
  if (engine.precision != "int8" && engine.precision != "int8-bf16")
    return "flagdit runs no denoise of " + engine.precision + " in an engine of its own on a CPU";
  return suits(engine.precision, cpu) ? ""
                                      : std::string("this CPU has no ") + needs(engine.precision);
}

}  // namespace

bool has_int8(const std::string& cpuinfo) {
  static const std::set<std::string> known = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp"};
  std::istringstream lines(cpuinfo);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
    std::istringstream words(line.substr(std::min(line.find(':'), line.size() - 1) + 1));
    return std::any_of(std::istream_iterator<std::string>(words),
                       std::istream_iterator<std::string>(),
                       [](const std::string& word) { return known.count(word) != 0; });
  }
  return false;
}

Cpu Cpu::here() {
#if defined(__APPLE__) && defined(__aarch64__)
  return {true, false};
#else
  std::ifstream file("/proc/cpuinfo");
  std::ostringstream text;
  text << file.rdbuf();
  return {has_int8(text.str()), has_amx()};
#endif
}

std::vector<std::string> available(const Manifest& manifest, const Cpu& cpu) {
  std::vector<std::string> found;
  for (const std::string& precision : kPrecisions) {
    const bool there = precision == "float32" || find(manifest, precision) != nullptr;
    if (there && suits(precision, cpu)) found.push_back(precision);
  }
  return found;
}

const EngineSpec* choose(const Manifest& manifest, const std::optional<std::string>& precision,
                         const Cpu& cpu) {
  const std::vector<std::string> found = available(manifest, cpu);
  if (!precision) return find(manifest, found[0]);
  if (std::find(kPrecisions.begin(), kPrecisions.end(), *precision) == kPrecisions.end()) {
    throw Error(Fault::backend, "precision " + in_quotes(*precision) + " is not one of " +
                                    joined(kPrecisions, ", "));
  }
  if (std::find(found.begin(), found.end(), *precision) != found.end())
    return find(manifest, *precision);
  if (find(manifest, *precision) != nullptr) {
    throw Error(Fault::backend, std::string("this CPU has no ") + needs(*precision) + "; use " +
                                    joined(found, " or "));
  }
  throw Error(Fault::backend,
              "the bundle of " + printable(manifest.model.name) + " has no " + *precision +
                  " engine; make one with: flagdit export CHECKPOINT -o MODEL --dtype int8, then "
                  "flagdit build MODEL -o BUNDLE");
}

std::vector<std::string> unused(const Manifest& manifest, const Cpu& cpu) {
  std::vector<std::pair<std::string, std::vector<std::string>>> reasons;
  for (const EngineSpec& engine : manifest.engines) {
    const std::string reason = obstacle(engine, cpu);
    if (reason.empty()) continue;
    auto known = std::find_if(reasons.begin(), reasons.end(),
                              [&](const auto& entry) { return entry.first == reason; });
    if (known == reasons.end()) known = reasons.insert(reasons.end(), {reason, {}});
    known->second.push_back(engine.file);
  }
  std::vector<std::string> lines;
  for (const auto& [reason, files] : reasons)
    lines.push_back("not used: " + joined(files, ", ") + ": " + reason);
  return lines;
}

int checked_threads(int64_t threads) {
  if (threads >= 1 && threads <= kMaxThreads) return static_cast<int>(threads);
  throw Error(Fault::backend, "threads is " + std::to_string(threads) + "; allowed are 1 to " +
                                  std::to_string(kMaxThreads) + ", and all cores if left out");
}

}  // namespace flagdit
