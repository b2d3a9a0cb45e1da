#include "flagdit/bundle.h"

#include <algorithm>
#include <set>
#include <utility>

#include "../printable.h"
#include "check.h"
#include "file.h"
#include "flagdit/error.h"
#include "flagdit/selftest.h"
#include "onnx_file.h"

namespace flagdit {
namespace {

constexpr int64_t kMaxJson = int64_t{16} << 20;
constexpr int64_t kMaxTokenizer = int64_t{64} << 20;

using bundle::refuse;

std::vector<const GraphSpec*> graphs_of(const ModelSpec& model) {
  std::vector<const GraphSpec*> graphs{&model.condition, &model.place, &model.denoise};
  for (const auto* graph : {&model.decode, &model.encode, &model.preview})
    if (*graph) graphs.push_back(&**graph);
  for (const TextSpec& text : model.texts) graphs.push_back(&text.graph);
  return graphs;
}

std::vector<std::string> graph_files(const ModelSpec& model) {
  std::vector<std::string> names;
  for (const GraphSpec* graph : graphs_of(model)) names.push_back(graph->file);
  return names;
}

void check_listed(const std::string& path, const Manifest& manifest) {
  std::vector<std::string> names = graph_files(manifest.model);
  names.push_back(manifest.model.weights.file);
  for (const TextSpec& text : manifest.model.texts) names.push_back(text.tokenizer);
  for (const GraphSpec* graph : graphs_of(manifest.model))
    if (graph->weights) names.push_back(*graph->weights);
  for (const EngineSpec& engine : manifest.engines) names.push_back(engine.file);
  std::set<std::string> unlisted;
  for (const std::string& name : names) {
    if (manifest.files.count(name) == 0) unlisted.insert(name);
  }
  std::string list;
  for (const std::string& name : unlisted) list += (list.empty() ? "" : ", ") + name;
  if (!list.empty())
    refuse(path + ": manifest.json uses " + list + " without a digest; rebuild it");
  const WeightsSpec& weights = manifest.model.weights;
  if (manifest.files.at(weights.file).sha256 != weights.sha256) {
    refuse(path + ": manifest.json has two digests of " + weights.file + "; rebuild it");
  }
}

std::vector<bundle::Part> parts_of(const std::vector<bundle::External>& tensors,
                                   const std::string& file) {
  std::vector<bundle::Part> parts;
  for (const bundle::External& tensor : tensors)
    if (tensor.location == file) parts.push_back({tensor.offset, tensor.length});
  return parts;
}

std::string_view view(const Content& content) { return {content->data(), content->size()}; }

}  // namespace

Bundle::Bundle(std::string directory, std::string text, Manifest manifest)
    : directory_(std::move(directory)), text_(std::move(text)), manifest_(std::move(manifest)) {}

Bundle Bundle::open(const std::string& path) {
  Bundle bundle = described(path);
  bundle.check_described();
  return bundle;
}

void Bundle::check_described() const {
  for (const auto& [name, expected] : manifest_.files) bundle::check_size(path(name), expected);
  for (size_t i = 0; i < manifest_.engines.size(); ++i) {
    const EngineSpec& engine = manifest_.engines[i];
    if (engine.target.rfind("onnxruntime", 0) != 0 || engine.graph != "denoise") continue;
    check_denoise(printable(path("manifest.json")) + ": engines." + std::to_string(i),
                  manifest_.model, engine.inputs, engine.outputs);
  }
}

Bundle Bundle::described(const std::string& path) {
  const std::string shown = printable(path);
  if (bundle::is_file(path)) refuse(shown + ": is a file and no bundle; give the bundle's folder");
  if (!bundle::is_directory(path)) {
    refuse(shown + ": no such bundle directory; make one with: flagdit build MODEL -o " + shown);
  }
  const std::string directory = bundle::absolute(path), file = directory + "/manifest.json";
  if (bundle::is_file(directory + "/model.json") && !bundle::is_file(file)) {
    refuse(shown + ": a model directory, not a bundle yet; next: flagdit build " + shown +
           " -o BUNDLE");
  }
  return of(path, bundle::read(file, kMaxJson));
}

Bundle Bundle::of(const std::string& path, std::string text) {
  const std::string directory = bundle::absolute(path);
  Manifest manifest = read_manifest(printable(directory) + "/manifest.json", text);
  check_listed(printable(path), manifest);
  return Bundle(directory, std::move(text), std::move(manifest));
}

std::string Bundle::name() const {
  return printable(directory_.substr(directory_.find_last_of('/') + 1));
}

std::vector<std::string> Bundle::graphs() const {
  std::vector<std::string> names = graph_files(model());
  for (const EngineSpec& engine : manifest_.engines) {
    if (engine.target.rfind("onnxruntime", 0) == 0) names.push_back(engine.file);
  }
  std::set<std::string> seen;
  names.erase(std::remove_if(names.begin(), names.end(),
                             [&](const std::string& name) { return !seen.insert(name).second; }),
              names.end());
  return names;
}

void Bundle::check_graph(const std::string& name, std::string_view content) const {
  bundle::check_external(name, bundle::external_tensors(name, content), manifest_.files);
}

size_t Bundle::check() const {
  const std::vector<std::string> loaded = graphs();
  size_t known = 0;
  for (const auto& [name, expected] : manifest_.files) {
    if (std::find(loaded.begin(), loaded.end(), name) == loaded.end())
      known += bundle::check(path(name), expected) ? 0 : 1;
  }
  for (const std::string& name : loaded) {
    const Content content =
        bundle::verified(path(name), manifest_.files.at(name), bundle::kMaxGraphBytes);
    check_graph(name, view(content));
  }
  return known;
}

std::vector<std::string> Bundle::verify(const std::string& path, const Told& told) {
  const Bundle bundle = described(path);
  const std::vector<std::string> loaded = bundle.graphs();
  int64_t done = 0, whole = 0;
  for (const auto& [name, expected] : bundle.manifest_.files) whole += expected.bytes;
  std::vector<std::string> faults;
  for (const auto& [name, expected] : bundle.manifest_.files) {
    const std::string file = bundle.path(name);
    const int64_t before = done;
    try {
      bundle::check_size(file, expected);
      if (std::find(loaded.begin(), loaded.end(), name) != loaded.end()) {
        const Content content =
            bundle::verified(file, expected, bundle::kMaxGraphBytes, bundle::Records::renewed);
        bundle.check_graph(name, view(content));
      } else {
        bundle::check(file, expected, bundle::Records::renewed,
                      [&](int64_t count) { told(std::min(done += count, whole), whole); });
      }
    } catch (const Error& error) {
      if (error.fault != Fault::bundle) throw;
      faults.push_back(error.what());
    }
    told(done = before + expected.bytes, whole);
  }
  return faults;
}

Content Bundle::read(const std::string& file, int64_t limit) const {
  const auto expected = manifest_.files.find(file);
  if (expected == manifest_.files.end())
    refuse(printable(directory_) + ": has no file " + in_quotes(file) + "; rebuild it");
  return bundle::verified(path(file), expected->second, limit);
}

HeldGraph Bundle::graph(const std::string& file, std::map<std::string, Content>& weights) const {
  HeldGraph graph;
  graph.held.push_back(read(file, bundle::kMaxGraphBytes));
  graph.bytes.name = file;
  graph.bytes.content = {graph.held[0]->data(), graph.held[0]->size()};
  const auto tensors = bundle::external_tensors(file, view(graph.held[0]));
  for (const std::string& name : bundle::check_external(file, tensors, manifest_.files)) {
    const FileSpec& expected = manifest_.files.at(name);
    const auto before = weights.find(name);
    Content content = before == weights.end() ? nullptr : before->second;
    if (content == nullptr)
      content = bundle::known_parts(path(name), expected, parts_of(tensors, name));
    if (content == nullptr) content = weights[name] = read(name);
    graph.held.push_back(content);
    graph.bytes.data.push_back({name, {content->data(), content->size()}});
  }
  return graph;
}

HeldGraph Bundle::engine(const std::string& file) const {
  const Content content = read(file);
  return {{file, {content->data(), content->size()}, {}}, {content}};
}

void Bundle::check_engine(const EngineSpec& engine, Session& denoise) const {
  if (engine.target == "onnxruntime" || manifest_.files.count(kSelfTest) == 0) return;
  const Content content = read(kSelfTest, kMaxSelfTest);
  SelfTest(view(content)).check(denoise);
}

Prompts Bundle::prompts() const {
  if (model().texts.empty()) {
    throw Error(Fault::backend,
                "the bundle has no text encoder; export the model with --text-encoder");
  }
  std::vector<Prompts::Reader> readers;
  for (const TextSpec& text : model().texts) {
    const Content content = read(text.tokenizer, kMaxTokenizer);
    readers.push_back({Tokenizer::read(text.tokenizer, view(content)),
                       {text.max_tokens, text.text_template,
                        text.negative.value_or(text.text_template), text.padding, text.truncate}});
  }
  return Prompts(std::move(readers));
}

}  // namespace flagdit
