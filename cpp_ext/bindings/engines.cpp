// Which of a bundle's engines runs where.
#include "flagdit/engines.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

using Engines = std::vector<EngineSpec>;

Manifest manifest_of(const Engines& engines, const std::string& model) {
  Manifest manifest;
  manifest.model.name = model;
  manifest.engines = engines;
  return manifest;
}

// Which of them, by its place; none is the model's own graph.
std::optional<size_t> place_of(const EngineSpec* chosen, const Manifest& manifest) {
  if (chosen == nullptr) return std::nullopt;
  return static_cast<size_t>(chosen - manifest.engines.data());
}

}  // namespace

void register_engines(nb::module_& m) {
  nb::class_<Cpu>(m, "Cpu", "What a CPU multiplies in faster than in fp32.")
      .def(
          "__init__", [](Cpu* self, bool int8, bool tiles) { new (self) Cpu{int8, tiles}; },
          nb::kw_only(), "int8"_a = false, "tiles"_a = false)
      .def_static("here", &Cpu::here)
      .def_ro("int8", &Cpu::int8, "int8 products that are exact: VNNI, AMX, dotprod.")
      .def_ro("tiles", &Cpu::tiles, "Tiles of int8 and bf16, which its system lends.");
  m.def("has_int8", &has_int8, "cpuinfo"_a,
        "Whether the first CPU of Linux's list has such instructions.");
  nb::class_<EngineSpec>(m, "EngineFacts", "What an engine is chosen by.")
      .def(
          "__init__",
          [](EngineSpec* self, std::string graph, std::string file, std::string target,
             std::string precision, std::vector<int64_t> architectures) {
            new (self) EngineSpec{};
            self->graph = std::move(graph);
            self->file = std::move(file);
            self->target = std::move(target);
            self->precision = std::move(precision);
            self->architectures = std::move(architectures);
          },
          "graph"_a, "file"_a, "target"_a, "precision"_a, "architectures"_a);
  m.def(
      "available_on_cpu",
      [](const Engines& engines, const Cpu& cpu) {
        return available(manifest_of(engines, {}), cpu);
      },
      "engines"_a, "cpu"_a,
      "Precisions of `denoise` that there are engines of and the CPU is made for, fastest first.");
  m.def(
      "unused_on_cpu",
      [](const Engines& engines, const Cpu& cpu) { return unused(manifest_of(engines, {}), cpu); },
      "engines"_a, "cpu"_a, "A line for each reason that some engines cannot run on a CPU.");
  m.def(
      "choose_on_cpu",
      [](const Engines& engines, const std::string& model,
         const std::optional<std::string>& precision, const Cpu& cpu) {
        const Manifest manifest = manifest_of(engines, model);
        return place_of(choose(manifest, precision, cpu), manifest);
      },
      "engines"_a, "model"_a, "precision"_a.none(), "cpu"_a,
      "Which engine `denoise` runs in on a CPU, by default the fastest; none is the model's own "
      "graph. Raises the error of a backend.");
  m.def(
      "choose_on_gpu",
      [](const Engines& engines, const std::string& model, const std::string& backend,
         const std::optional<std::string>& precision, const Gpu& gpu) {
        const Manifest manifest = manifest_of(engines, model);
        return place_of(choose_on_gpu(manifest, backend, precision, gpu), manifest);
      },
      "engines"_a, "model"_a, "backend"_a, "precision"_a.none(), "gpu"_a,
      "Which engine runs on a GPU; none is the model's own graph. Raises the error of a backend.");
  m.def("checked_threads", &checked_threads, "threads"_a,
        "The number of threads. Raises the error of a backend if it is out of bounds.");
}

}  // namespace flagdit::python
