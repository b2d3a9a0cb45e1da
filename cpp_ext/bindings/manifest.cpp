// What is checked of files that somebody else may have written: manifests, and graphs.
#include "flagdit/manifest.h"

#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "../src/bundle/onnx_file.h"
#include "../src/printable.h"
#include "arrays.h"
#include "sessions.h"

namespace flagdit::python {

using namespace nb::literals;

namespace {

std::string_view text_of(const nb::bytes& content) { return {content.c_str(), content.size()}; }

std::string_view text_of(const Bytes& content) {
  return {static_cast<const char*>(content.data), static_cast<size_t>(content.size)};
}

// The files that a graph has its weights in.
std::vector<std::string> files_of(const std::string& name, const nb::object& content,
                                  const std::map<std::string, int64_t>& sizes) {
  std::map<std::string, FileSpec> files;
  for (const auto& [file, bytes] : sizes) files[file] = {{}, bytes};
  const auto tensors = bundle::external_tensors(name, text_of(to_bytes(content)));
  const std::set<std::string> found = bundle::check_external(name, tensors, files);
  return {found.begin(), found.end()};
}

}  // namespace

void register_manifest(nb::module_& m) {
  m.def(
      "check_manifest",
      [](const nb::str& path, const nb::bytes& content) {
        read_manifest(printable(to_path(path)), text_of(content));
      },
      "path"_a, "content"_a, "Raises the error of a bundle unless a manifest.json can be read.");
  m.def(
      "check_model",
      [](const nb::str& path, const nb::bytes& content) {
        read_model(printable(to_path(path)), text_of(content));
      },
      "path"_a, "content"_a, "Raises the error of a bundle unless a model.json can be read.");
  m.def("check_borders", &check_borders, "file"_a, "said"_a, "found"_a,
        "Raises the error of a bundle unless a graph has the inputs and outputs that are said of "
        "it. An axis of the graph that has no name may be any.");
  m.def("external_files", &files_of, "name"_a, "content"_a, "sizes"_a,
        nb::sig("def external_files(name: str, content: bytes | memoryview, sizes: Mapping[str, "
                "int]) -> list[str]"),
        "Names of the files that a graph has weights in; sizes: of all that it may, in bytes. "
        "Raises the error of a bundle, by the graph's name, for any other file, for what is behind "
        "the end of one, for a tensor outside that is no weight of the graph, and for what is no "
        "ONNX file.");
  m.def(
      "external_tensors",
      [](const std::string& name, const nb::object& content) {
        nb::list found;
        for (const auto& tensor : bundle::external_tensors(name, text_of(to_bytes(content))))
          found.append(
              nb::make_tuple(tensor.tensor, tensor.location, tensor.offset, tensor.length));
        return found;
      },
      "name"_a, "content"_a,
      nb::sig(
          "def external_tensors(name: str, content: bytes | memoryview) -> list[tuple[str, str, "
          "int, int]]"),
      "Name, file, offset and bytes of each tensor of a graph whose values are not in it. Raises "
      "as `external_files` does.");
}

}  // namespace flagdit::python
