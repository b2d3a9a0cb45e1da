// A bundle as the core reads it, for tests: Python's own face reads it with pydantic.
#include "flagdit/bundle.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "arrays.h"
#include "flagdit/digest.h"
#include "flagdit/engines.h"
#include "flagdit/file_record.h"
#include "flagdit/selftest.h"
#include "sessions.h"

namespace flagdit::python {

using namespace nb::literals;

namespace {

void register_records(nb::module_& m) {
  nb::class_<FileRecord>(m, "FileRecord",
                         "What is known of an open file by its descriptor, which is read after "
                         "this is made and stays open as long as it is used.")
      .def(nb::init<int, std::optional<int64_t>>(), "file"_a, "now"_a = nb::none(),
           "now: nanoseconds since 1970; the system's if it is not said.")
      .def("holds", &FileRecord::holds, "sha256"_a,
           "Whether the file was found to have this digest before, and is as it was then.")
      .def("unchanged", &FileRecord::unchanged, "Whether it is still as it was when this was made.")
      .def("keep", &FileRecord::keep, "sha256"_a,
           "That it has this digest: all of it was read since this was made. A file that is small, "
           "or changed a short while ago, is not remembered.");
  m.def("records_folder", &records_folder, "Where digests are remembered; empty if they are not.");
}

}  // namespace

void register_bundle(nb::module_& m) {
  register_records(m);
  nb::class_<Bundle>(m, "Bundle", "A directory whose files are what its manifest says.")
      .def_static("open", &Bundle::open, "path"_a, "Raises the error of a bundle if it is none.")
      .def("check", &Bundle::check,
           "Every file. Returns how many were not read, since they were found right before. Raises "
           "the error of a bundle.")
      .def_static(
          "verify",
          [](const std::string& path, const nb::callable& told) {
            const auto tell = [&](int64_t done, int64_t whole) {
              const nb::gil_scoped_acquire acquire;
              told(done, whole);
            };
            const nb::gil_scoped_release release;
            return Bundle::verify(path, tell);
          },
          "path"_a, "told"_a,
          nb::sig("def verify(path: str, told: collections.abc.Callable[[int, int], object]) -> "
                  "list[str]"),
          "Read every byte, whatever is known. told: of the bytes that are done, and of how many. "
          "Returns a line for each file that is not what the manifest says. Raises the error of a "
          "bundle if its manifest is none.")
      .def_prop_ro("name", &Bundle::name)
      .def_prop_ro("graphs", &Bundle::graphs, "Files that ONNX Runtime may load.")
      .def_prop_ro(
          "available",
          [](const Bundle& bundle) { return available(bundle.manifest(), Cpu::here()); },
          "Precisions that there are engines for that this CPU is made for, fastest first.")
      .def(
          "tokens",
          [](const Bundle& bundle, const nb::bytes& prompt) {
            const std::string text(prompt.c_str(), prompt.size());
            const Prompts prompts = bundle.prompts();
            prompts.check(text, Branch::conditional);
            return prompts.tokens(text, Branch::conditional).front();
          },
          "prompt"_a,
          "Token ids of a prompt, for the first encoder. Raises the error of a request.");
  m.def(
      "selftest_cases",
      [] {
        nb::list cases;
        for (const SelfTestCase& one : kSelfTestCases)
          cases.append(nb::make_tuple(one.active, one.cached, one.rows));
        return cases;
      },
      nb::sig("def selftest_cases() -> list[tuple[int, int, int]]"),
      "Active and cached tokens and rows of each call of a self-test.");
  m.def(
      "check_selftest",
      [](const nb::object& session, const nb::object& content) {
        const flagdit::Bytes held = to_bytes(content);
        const SelfTest test({static_cast<const char*>(held.data), static_cast<size_t>(held.size)});
        const std::shared_ptr<Session> tried = to_session(session);
        const nb::gil_scoped_release release;
        test.check(*tried);
      },
      "session"_a, "content"_a,
      nb::sig("def check_selftest(session: object, content: bytes | memoryview) -> None"),
      "Raise the error of a backend unless a session of `denoise`, which is run once for each "
      "case, "
      "makes what it should of the vectors in the content of a selftest.safetensors; of a bundle "
      "if "
      "that has none.");
  m.def(
      "check_manifest",
      [](const std::string& path, const nb::bytes& content) {
        read_manifest(path, {content.c_str(), content.size()});
      },
      "path"_a, "content"_a, "Raises the error of a bundle unless a manifest.json can be read.");
  m.def(
      "sha256", [](const nb::bytes& data) { return sha256(data.c_str(), data.size()); }, "data"_a);
}

}  // namespace flagdit::python
