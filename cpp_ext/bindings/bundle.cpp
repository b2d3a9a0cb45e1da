// A bundle: Python has its manifest and the bytes of its files from the core, which checks both.
#include "flagdit/bundle.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <mutex>
#include <string>

#include "../src/bundle/file.h"
#include "arrays.h"
#include "flagdit/digest.h"
#include "flagdit/file_record.h"
#include "flagdit/selftest.h"
#include "sessions.h"

namespace flagdit::python {

using namespace nb::literals;

namespace {

// Bytes that were verified, as Python reads them; the last view of them keeps them.
nb::object view_of(const Content& content) {
  using View = nb::ndarray<nb::numpy, nb::ro, uint8_t, nb::ndim<1>>;
  const nb::capsule owner(new Content(content),
                          [](void* kept) noexcept { delete static_cast<Content*>(kept); });
  const View bytes(content->data(), {content->size()}, owner);
  return nb::module_::import_("builtins").attr("memoryview")(nb::cast(bytes));
}

// Files of weights that were read, and are shared by the graphs which are loaded after it.
struct Weights {
  std::map<std::string, Content> read;
  std::mutex mutex;  // of it: graphs are read without Python's lock
};

nb::tuple graph_of(const Bundle& bundle, const nb::str& file, Weights& weights) {
  const std::string name = to_path(file);
  HeldGraph graph;
  {
    const nb::gil_scoped_release release;
    const std::lock_guard<std::mutex> alone(weights.mutex);
    graph = bundle.graph(name, weights.read);
  }
  nb::dict data;
  for (size_t i = 0; i < graph.bytes.data.size(); ++i)
    data[graph.bytes.data[i].name.c_str()] = view_of(graph.held[i + 1]);
  return nb::make_tuple(view_of(graph.held[0]), data);
}

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
  nb::class_<Weights>(m, "Weights", "Files of weights that graphs of a bundle share.")
      .def(nb::init<>())
      .def_prop_ro(
          "files",
          [](Weights& weights) {
            const nb::gil_scoped_release release;
            const std::lock_guard<std::mutex> alone(weights.mutex);
            std::vector<std::string> files;
            for (const auto& [file, content] : weights.read) files.push_back(file);
            return files;
          },
          "Names of those that were read whole.");
  nb::class_<Bundle>(m, "Bundle", "A directory whose files are what its manifest says.")
      .def_static(
          "open", [](const nb::str& path) { return Bundle::open(to_path(path)); }, "path"_a,
          "Raises the error of a bundle if it is none.")
      .def_static(
          "of",
          [](const nb::str& path, const nb::bytes& text) {
            return Bundle::of(to_path(path), {text.c_str(), text.size()});
          },
          "path"_a, "text"_a,
          "Of a directory and what its manifest.json would say. Raises the error of a bundle if "
          "that contradicts itself.")
      .def("check", &Bundle::check,
           "Every file. Returns how many were not read, since they were found right before. Raises "
           "the error of a bundle.")
      .def_static(
          "verify",
          [](const nb::str& path, const nb::callable& told) {
            const std::string directory = to_path(path);
            const auto tell = [&](int64_t done, int64_t whole) {
              const nb::gil_scoped_acquire acquire;
              told(done, whole);
            };
            const nb::gil_scoped_release release;
            return Bundle::verify(directory, tell);
          },
          "path"_a, "told"_a,
          nb::sig("def verify(path: str, told: collections.abc.Callable[[int, int], object]) -> "
                  "list[str]"),
          "Read every byte, whatever is known. told: of the bytes that are done, and of how many. "
          "Returns a line for each file that is not what the manifest says. Raises the error of a "
          "bundle if its manifest is none.")
      .def(
          "read",
          [](const Bundle& bundle, const nb::str& file, std::optional<int64_t> limit) {
            const std::string name = to_path(file);
            Content content;
            {
              const nb::gil_scoped_release release;
              content = bundle.read(name, limit.value_or(INT64_MAX));
            }
            return view_of(content);
          },
          "file"_a, "limit"_a = nb::none(),
          nb::sig("def read(self, file: str, limit: int | None = None) -> memoryview"),
          "A file's bytes, as the manifest says they are, in memory of this process. Raises the "
          "error of a bundle if they are not, or are more than `limit`, that of a backend if there "
          "is no memory.")
      .def("graph", &graph_of, "file"_a, "weights"_a,
           nb::sig("def graph(self, file: str, weights: Weights) -> tuple[memoryview, dict[str, "
                   "memoryview]]"),
           "A graph's bytes, and those of the files that its weights are in, by name. Of a file "
           "that is known to be right only what the graph has in it is read, and zeros are the "
           "rest; else all of it, once for all graphs with the same `weights`. Raises as `read` "
           "does.")
      .def(
          "check_engine",
          [](const Bundle& bundle, const EngineSpec& engine, const nb::object& session) {
            const std::shared_ptr<Session> tried = to_session(session);
            const nb::gil_scoped_release release;
            bundle.check_engine(engine, *tried);
          },
          "engine"_a, "session"_a,
          nb::sig("def check_engine(self, engine: EngineFacts, session: object) -> None"),
          "Try an engine of `denoise` for a GPU before it is used, if there are vectors. Raises "
          "the "
          "error of a backend if it computes wrong numbers.")
      .def_prop_ro(
          "text", [](const Bundle& b) { return nb::bytes(b.text().data(), b.text().size()); },
          "Of manifest.json, as it was read.")
      .def_prop_ro("name", &Bundle::name)
      .def_prop_ro("graphs", &Bundle::graphs, "Files that ONNX Runtime may load.")
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
          cases.append(nb::make_tuple(one.active, one.cached, one.rows, one.rests ? kRested : 0));
        return cases;
      },
      nb::sig("def selftest_cases() -> list[tuple[int, int, int, int]]"),
      "Active and cached tokens and rows of each call of a self-test; above 0 it is one without a "
      "text, of a model whose text may rest, and caches that no text adds to have so many tokens "
      "less.");
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
      "sha256", [](const nb::bytes& data) { return sha256(data.c_str(), data.size()); }, "data"_a);
}

}  // namespace flagdit::python
