// The content of a bundle's manifest.json, schema 2 (docs/bundle.md): plain data, read strictly.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flagdit/model.h"
#include "flagdit/session.h"

namespace flagdit {

constexpr int64_t kSchemaVersion = 2;

struct GraphSpec {
  std::string file;
  std::vector<Port> inputs, outputs;
  std::optional<std::string> weights = std::nullopt;

  std::vector<Port> ports() const;  // all of them
};

struct WeightsSpec {
  std::string file, sha256, dtype;
  int64_t parameters = 0;
};

struct LatentSpec {
  std::string space;                                                       // pixels or vae
  int64_t channels = 0, width = 0, height = 0, downscale = 1, frames = 1;  // sizes in pixels
};

struct TokensSpec {
  int64_t patch_frames = 1, patch_height = 1, patch_width = 1;
  bool closes_lines = false, closes_frames = false;
  int64_t multiple = 1;
};

struct GuidanceSpec {
  std::vector<int64_t> channels;
  double scale = 4.0;
  std::string renormalise = "none";
  std::vector<int64_t> skip_layers{};
};

// Of times: fixed, or by the number of patches: exp(mu) with mu on the line through two of them.
struct ShiftSpec {
  double fixed = 1.0;
  bool by_tokens = false;
  int64_t few = 0, many = 0;
  double low = 0.0, high = 0.0;
};

struct SizesSpec {
  int64_t width = 0, hidden = 0, heads = 0, kv_heads = 0, head = 0;
  std::optional<int64_t> text = std::nullopt;  // tokens of every text, if all have as many
};

struct PriceSpec {
  int64_t token = 0, pair = 0, text = 0, text_pair = 0;
};

struct TextSpec {
  GraphSpec graph;
  std::string tokenizer, text_template;
  int64_t max_tokens = 0;
  std::optional<int64_t> padding;
  std::optional<std::string> negative = std::nullopt;
  bool truncate = false;
  std::string dtype = "float32";  // of its stored matrices, for people
};

struct CoarseSpec {
  int64_t factor = 1;
  std::vector<double> times;
};

struct PresetSpec {
  std::string name;
  int64_t width = 0, height = 0;
  std::vector<double> times;
  std::vector<std::vector<double>> weights;
  std::vector<double> ratios, forecast_kv;
  bool rest_text = false;
  std::optional<CoarseSpec> coarse;
  double cost = 0.0;
  std::map<std::string, double> psnr;
};

struct ModelSpec {
  std::string name;
  WeightsSpec weights;
  LatentSpec latent;
  TokensSpec tokens;
  GuidanceSpec guidance;
  ShiftSpec shift;
  std::vector<double> phases;
  double ntk_power = 1.0;
  SizesSpec sizes;
  PriceSpec price;
  std::vector<TextSpec> texts;
  std::map<std::string, float> pads;
  std::vector<PresetSpec> presets;
  std::vector<std::string> examples;
  GraphSpec condition, place, denoise;
  std::optional<GraphSpec> decode, encode, preview;
  std::map<std::string, std::string> licences;

  int64_t patch_values() const;
};

struct FileSpec {
  std::string sha256;
  int64_t bytes = 0;
};

// One graph compiled for one target. One of a GPU runs only where versions and architectures match.
struct EngineSpec {
  std::string graph, file, target, version, platform, precision;
  std::vector<int64_t> architectures;  // compute capabilities times ten; none of a CPU's
  std::vector<Port> inputs, outputs;
};

struct Manifest {
  std::string flagdit;  // that wrote it
  ModelSpec model;
  std::map<std::string, FileSpec> files;
  std::vector<EngineSpec> engines;
};

// Throws Error(bundle), by the path and the place in the file, for what is not known, out of
// bounds, or contradicts itself.
Manifest read_manifest(const std::string& path, std::string_view content);

// Of a model.json. Throws as `read_manifest` does.
ModelSpec read_model(const std::string& path, std::string_view content);

// The numbers of it that decisions need.
Model model_of(const ModelSpec& spec);

// That `denoise`, or an engine of it, takes what the other graphs make, and gives its own. place:
// what messages call it.
void check_denoise(const std::string& place, const ModelSpec& model,
                   const std::vector<Port>& inputs, const std::vector<Port>& outputs);

// That a graph has the inputs and outputs which are said of it. file: what messages call it. Throws
// Error(bundle).
void check_borders(const std::string& file, const std::vector<Port>& said,
                   const std::vector<Port>& found);

}  // namespace flagdit
