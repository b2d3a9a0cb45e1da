// What a manifest says of a model that decisions need: numbers, and no family.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "flagdit/fields.h"
#include "flagdit/layout.h"
#include "flagdit/presets.h"
#include "flagdit/price.h"
#include "flagdit/renormalise.h"

namespace flagdit {

// In pixels.
struct Size {
  int64_t width, height;
};

// A time shift exp(mu), with mu on the line through two numbers of patches.
struct ShiftLine {
  int64_t few, many;  // patches
  double low, high;   // mu at each
};

struct Model {
  Layout pattern;         // of its latents, whatever height and width it has
  Size size;              // of the training
  int64_t downscale = 1;  // pixels of a latent, in one direction
  std::variant<Number, ShiftLine> shift = Number(1.0);  // of times, that suits it
  Number guidance = 4.0;                                // scale that suits it
  std::vector<int64_t> guided{};                        // channels that guidance touches
  int64_t layers = 0;              // of which a branch of guidance may skip some; 0: none may
  std::vector<int64_t> skipped{};  // those that suit it
  Renormalise renormalise = Renormalise::none;         // of guided velocities
  std::map<std::string, float> pads{};                 // see `conditions`
  bool takes_ntk = false, takes_proportional = false;  // inputs that its graph `place` has
  double ntk_power = 1.0;             // of the area's growth, which is ntk's "auto"
  std::vector<double> phases{0.0};    // times from which on its tokens are placed anew
  bool vae = false, encodes = false;  // whether it ends in latents, and makes them of a picture
  bool decodes = false;               // whether its bundle makes pictures of latents
  Sizes sizes{};
  std::vector<Calibrated> presets{};
  int64_t head_multiple = 1;  // see below
};

// What the active slots of a step are a multiple of, unless they are all: the tail of every cache
// then begins at a multiple of 256 bytes, which TensorRT asks of an address. By values of a row of
// each cache, in the smallest type that one is kept in, of 2 bytes, and for a call of one row: so
// it depends on the model alone, and a plan on no backend, precision, or batch.
int64_t head_multiple(const std::vector<int64_t>& row_values);

// Whether its text can rest beside so many tokens of a picture: it adds to the caches, and begins there
// at a multiple of 256 bytes.
bool may_rest(const Model& model, int64_t tokens);

// The layout of a picture of that size, by default the model's own. Throws Error if that is not
// made of patches, or of too many.
Layout layout_of(const Model& model, const std::optional<Size>& size = std::nullopt);
Layout sized(const Layout& pattern, const Size& size, int64_t downscale = 1);

// The time shift of a picture of so many patches, 0.1 to 100.
Number shift_at(const Model& model, int64_t patches);

// Throws Error unless it is None, "auto" or a factor from 1 on.
void check_ntk(const Value& said);

// The factor of sizes beyond training, on theta of RoPE unless the model's `place` takes it otherwise:
// 1 for None, else what is said; "auto" is the area over the training area, at least 1, so that
// nothing changes at the training size and below it, to the power that the model says: 1 is what
// Lumina-T2X's demo takes, 1/2 what Lumina-Next's does. Throws Error as `check_ntk` does.
double ntk_factor(const Model& model, const Layout& layout, const Value& said);

// The phases that a leg with such a factor goes through: with a factor of 1 there is one alone.
std::vector<double> phases_at(const Model& model, double ntk);

// Its presets at a size, see presets.h. Throws Error for a size that cannot be.
Presets presets_of(const Model& model, const std::optional<Size>& size = std::nullopt);

}  // namespace flagdit
