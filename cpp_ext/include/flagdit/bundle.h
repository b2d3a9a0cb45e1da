// A bundle: manifest.json and the files it names, checked before any of them is used.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flagdit/manifest.h"
#include "flagdit/onnxruntime.h"
#include "flagdit/tokenizer.h"

namespace flagdit {

namespace bundle {
class Held;
}
using Content = std::shared_ptr<const bundle::Held>;

// A graph to load, and its weights: as long as this is there, they are.
struct HeldGraph {
  GraphBytes bytes;
  std::vector<Content> held;
};

class Bundle {
 public:
  // Of a directory; its files are checked when they are read. Throws
  // Error(bundle) if it is missing, of another schema version, or
  // its manifest contradicts itself or the sizes of the files.
  static Bundle open(const std::string& path);
  // Of a directory and what its manifest.json would say: while a bundle is made it has none yet.
  static Bundle of(const std::string& path, std::string text);

  const std::string& directory() const { return directory_; }
  const Manifest& manifest() const { return manifest_; }
  const ModelSpec& model() const { return manifest_.model; }
  const std::string& text() const { return text_; }  // of manifest.json, as it was read
  // What a user calls it: the name of its folder, without those above it, printable.
  std::string name() const;

  // Checks every file, and where each of its graphs has its weights. Returns how many files were not
  // read, since they were found right before (flagdit/file_record.h). Throws Error(bundle).
  size_t check() const;
  // Reads every byte of the files of a directory, whatever is known of them, and checks them as
  // `check` does. told: of the bytes that are done, and of how many. Returns what is wrong, a line
  // for each file that is not what the manifest says. Throws as `open` does, but not for files.
  using Told = std::function<void(int64_t done, int64_t whole)>;
  static std::vector<std::string> verify(const std::string& path, const Told& told);
  // The names of the files that ONNX Runtime may load.
  std::vector<std::string> graphs() const;
  // A file's bytes, as the manifest says they are: whatever becomes of it, they stay what was
  // verified. Throws Error(bundle) if they are not, or more than `limit`; Error(backend) without memory.
  Content read(const std::string& file, int64_t limit = INT64_MAX) const;
  // A graph to load. weights: those that were read before, to which more are added. Of a file that is
  // known to be right only what the graph has in it is read, and not added. Throws Error(bundle) if a
  // byte of them is not what the manifest says.
  HeldGraph graph(const std::string& file, std::map<std::string, Content>& weights) const;
  // An engine that is no graph of ONNX: all that it needs is in it. Throws as `graph` does.
  HeldGraph engine(const std::string& file) const;
  // Tries an engine of `denoise` before it is used, if the bundle has vectors and it is for a GPU.
  // Throws Error(backend) if it computes wrong numbers.
  void check_engine(const EngineSpec& engine, Session& denoise) const;
  // Of the text encoders. Throws Error(backend) if there
  // is none, Error(bundle) if a tokenizer is none.
  Prompts prompts() const;

 private:
  Bundle(std::string directory, std::string text, Manifest manifest);
  // Of a directory whose files may be missing.
  static Bundle described(const std::string& path);
  // That the files are as large as the manifest says, and engines of `denoise` take what is made.
  void check_described() const;
  void check_graph(const std::string& name, std::string_view content) const;
  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  std::string directory_, text_;
  Manifest manifest_;
};

}  // namespace flagdit
