// What this CPU can do, and which of a bundle's engines suits it (docs/cpu.md).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "flagdit/device.h"
#include "flagdit/manifest.h"

namespace flagdit {

// What a CPU multiplies in faster than in fp32.
struct Cpu {
  bool int8 = false;   // int8 products that are exact: VNNI, AMX, dotprod
  bool tiles = false;  // of int8 and bf16, which its system lends

  static Cpu here();
};

// Whether the first CPU of Linux's list has one of the instructions.
bool has_int8(const std::string& cpuinfo);

// The precisions of `denoise` that a bundle has and a CPU is made for, fastest first.
std::vector<std::string> available(const Manifest& manifest, const Cpu& cpu);

// The engine that `denoise` runs in, by default the fastest; null is its own graph, in fp32. Throws
// Error(backend) if the precision is not to be had.
const EngineSpec* choose(const Manifest& manifest, const std::optional<std::string>& precision,
                         const Cpu& cpu);

// Where runs go that ask for "cpu", "cuda", or "auto": a GPU if the backend can use it. provider:
// whether ONNX Runtime has its CUDA provider. Throws Error(backend) with what is missing.
Device choose_device(const std::string& device, const std::string& backend, const Gpu& gpu,
                     bool provider);
// The engine that `denoise` runs in on a GPU, by default the fastest that the backend has; null is
// its own graph, in fp32. Throws Error(backend) if there is none, or it is for another GPU.
const EngineSpec* choose_on_gpu(const Manifest& manifest, const std::string& backend,
                                const std::optional<std::string>& precision, const Gpu& gpu);

// A line for each reason that some of a bundle's engines cannot run here.
std::vector<std::string> unused(const Manifest& manifest, const Cpu& cpu);

// Throws Error(backend) if it is out of bounds.
int checked_threads(int64_t threads);

}  // namespace flagdit
