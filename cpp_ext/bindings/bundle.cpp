// A bundle as the core reads it, for tests: Python's own face reads it with pydantic.
#include "flagdit/bundle.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "arrays.h"
#include "flagdit/digest.h"
#include "flagdit/engines.h"
#include "flagdit/selftest.h"
#include "sessions.h"

namespace flagdit::python {

using namespace nb::literals;

void register_bundle(nb::module_& m) {
  nb::class_<Bundle>(m, "Bundle", "A directory whose files are what its manifest says.")
      .def_static("open", &Bundle::open, "path"_a, "Raises the error of a bundle if it is none.")
      .def("check", &Bundle::check, "Every byte. Raises the error of a bundle.")
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
