// How manifest.json and model.json are read, within the bounds of their schema (docs/schema).
#include "flagdit/manifest.h"

#include <utility>

#include "../printable.h"
#include "check.h"
#include "fields.h"
#include "flagdit/error.h"
#include "models.h"

namespace flagdit {
namespace {

using bundle::Fields;
using bundle::Value;

std::map<std::string, FileSpec> read_files(const Value& value) {
  std::map<std::string, FileSpec> files;
  for (const auto& [name, entry] : value.entries()) {
    const Json key = name;
    Fields fields(entry);
    FileSpec file{fields.at("sha256").digest(), fields.at("bytes").whole(0)};
    fields.done();
    files[Value(key, entry.where()).file_name()] = std::move(file);
  }
  return files;
}

void check_profile(const Value& value) {
  Fields fields(value);
  for (const char* name : {"min", "opt", "max"}) {
    for (const Value& size : fields.at(name).list()) size.whole();
  }
  fields.done();
}

EngineSpec read_engine(const Value& value) {
  Fields fields(value);
  EngineSpec engine;
  engine.graph = fields.at("graph").one_of({"condition", "denoise"});
  engine.file = fields.at("file").file_name();
  engine.target =
      fields.at("target").one_of({"tensorrt-rtx", "tensorrt", "onnxruntime", "onnxruntime-cuda"});
  engine.version = fields.at("version").text();
  for (const Value& item : fields.at("architectures").list())
    engine.architectures.push_back(item.whole());
  engine.platform = fields.at("platform").text();
  engine.precision =
      fields.at("precision").one_of({"float32", "float16", "bfloat16", "int8", "int8-bf16", "fp8"});
  for (const Value& item : fields.at("profiles").list()) {
    for (const auto& [name, profile] : item.entries()) check_profile(profile);
  }
  engine.inputs = bundle::read_ports(fields.at("inputs"), false);
  engine.outputs = bundle::read_ports(fields.at("outputs"), true);
  fields.at("build_seconds").number();
  if (const auto peak = fields.given("peak_build_bytes")) peak->whole();
  if (const auto psnr = fields.given("psnr")) psnr->number();
  fields.done();
  return engine;
}

Manifest read_all(const Json& document) {
  Fields fields(Value(document, ""));
  Manifest manifest;
  fields.at("schema_version");
  manifest.flagdit = fields.at("flagdit").text();
  manifest.model = bundle::read_model_spec(fields.at("model"));
  manifest.files = read_files(fields.at("files"));
  if (const auto engines = fields.find("engines")) {
    for (const Value& item : engines->list()) manifest.engines.push_back(read_engine(item));
  }
  fields.done();
  return manifest;
}

void check_version(const std::string& path, const Json& document, const char* again) {
  const auto found = document.is_object() ? document.find("schema_version") : document.end();
  const bool there = document.is_object() && found != document.end();
  if (there && found->is_number() && *found == kSchemaVersion) return;
  throw Error(Fault::bundle,
              path + ": schema version " + (there ? shortened(found->dump()) : "None") +
                  "; this flagdit reads " + std::to_string(kSchemaVersion) +
                  ": make it again with " + again + ", or install the flagdit that wrote it");
}

// What `read` makes of the document, if its model is whole.
template <typename Read>
auto checked(const std::string& path, std::string_view content, const char* again, Read read) {
  const Json document = parse_json(path, content);
  check_version(path, document, again);
  try {
    return read(document);
  } catch (const bundle::WrongField& fault) {
    throw Error(Fault::bundle, path + ": " + shortened(fault.where) + ": " +
                                   shortened(fault.what()) + "; rebuild it with flagdit build");
  }
}

}  // namespace

Manifest read_manifest(const std::string& path, std::string_view content) {
  const char* again = "flagdit export CHECKPOINT -o MODEL, then flagdit build MODEL -o BUNDLE";
  return checked(path, content, again, [&](const Json& document) {
    Manifest manifest = read_all(document);
    bundle::check_model(path, manifest.model);
    return manifest;
  });
}

ModelSpec read_model(const std::string& path, std::string_view content) {
  const char* again = "flagdit export CHECKPOINT -o MODEL";
  return checked(path, content, again, [&](const Json& document) {
    ModelSpec model = bundle::read_model_spec(bundle::Value(document, ""));
    bundle::check_model(path, model);
    return model;
  });
}

std::vector<Port> GraphSpec::ports() const {
  std::vector<Port> all = inputs;
  all.insert(all.end(), outputs.begin(), outputs.end());
  return all;
}

int64_t ModelSpec::patch_values() const {
  return latent.channels * tokens.patch_frames * tokens.patch_height * tokens.patch_width;
}

}  // namespace flagdit
