#include "requests.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "flagdit/checked.h"
#include "flagdit/error.h"
#include "flagdit/orientation.h"
#include "flagdit/texts.h"
#include "options.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

using Pair = std::pair<int64_t, int64_t>;

uint64_t to_seed(nb::handle seed) {
  if (PyBool_Check(seed.ptr()) || !PyIndex_Check(seed.ptr())) {
    refuse_seed(nb::cast<std::string>(nb::repr(seed)));
  }
  return seed_of(nb::cast<std::string>(nb::str(nb::steal(PyNumber_Index(seed.ptr())))));
}

using Picture = nb::ndarray<nb::numpy, const uint8_t, nb::shape<-1, -1, 3>, nb::c_contig>;
using GivenFloats = nb::ndarray<nb::numpy, const float, nb::c_contig>;

int64_t to_tile(nb::handle tile) {
  const Number pixels = to_number("tile", tile);
  if (pixels.whole && pixels >= 0 && pixels <= INT32_MAX) return static_cast<int64_t>(pixels.value);
  throw Error(Fault::request,
              "tile is " + text_of(pixels) +
                  "; allowed are whole numbers of pixels, and 0 for the whole at once");
}

// image, mask (Y, X, 3), strength, noise, tile; none of them need be there.
void to_canvas(nb::handle asked, Request& out) {
  const auto of = [&](const char* name) { return nb::getattr(asked, name, nb::none()); };
  if (const nb::object image = of("image"); !image.is_none()) {
    const auto bytes = nb::cast<Picture>(image);
    const auto height = static_cast<int64_t>(bytes.shape(0));
    const auto width = static_cast<int64_t>(bytes.shape(1));
    const nb::object masked = of("mask");
    const auto mask = masked.is_none() ? Picture() : nb::cast<Picture>(masked);
    if (!masked.is_none())
      check_mask(width, height, static_cast<int64_t>(mask.shape(1)),
                 static_cast<int64_t>(mask.shape(0)));
    out.canvas = std::make_shared<Canvas>(
        canvas_of(bytes.data(), masked.is_none() ? nullptr : mask.data(), width, height));
  }
  if (const nb::object strength = of("strength"); !strength.is_none())
    out.strength = to_number("strength", strength);
  if (const nb::object tile = of("tile"); !tile.is_none()) out.tile = to_tile(tile);
  if (const nb::object noise = of("noise"); !noise.is_none()) {
    const auto values = nb::cast<GivenFloats>(noise);
    out.noise.assign(values.data(), values.data() + values.size());
    out.noise_shape.assign(values.shape_ptr(), values.shape_ptr() + values.ndim());
  }
}

// Features (1, T, Y) or (1, Y) by name, in memory of their own.
std::vector<Bound> to_features(nb::handle given) {
  std::vector<Bound> out;
  for (const auto& [name, array] : nb::cast<nb::dict>(given)) {
    const auto values = nb::cast<GivenFloats>(array);
    const auto kept =
        std::make_shared<std::vector<float>>(values.data(), values.data() + values.size());
    check_range("embeds: axes", static_cast<int64_t>(values.ndim()), 2, 3);
    const std::vector<int64_t> sizes(values.shape_ptr(), values.shape_ptr() + values.ndim());
    const Shape shape(sizes.data(), static_cast<int>(sizes.size()));
    out.push_back({nb::cast<std::string>(name), {kept->data(), DType::f32, shape}, kept});
  }
  return out;
}

void to_embeds(nb::handle asked, Request& out) {
  const nb::object embeds = nb::getattr(asked, "embeds", nb::none());
  if (!embeds.is_none())
    for (nb::handle each : nb::iter(embeds)) out.embeds.push_back(to_features(each));
  const nb::object negative = nb::getattr(asked, "negative_embeds", nb::none());
  if (!negative.is_none()) out.negative_embeds = to_features(negative);
}

}  // namespace

Request to_request(nb::handle asked) {
  Request out;
  for (nb::handle prompt : nb::iter(nb::getattr(asked, "prompts"))) {
    out.prompts.push_back(to_text(prompt));
  }
  const nb::object seeds = nb::getattr(asked, "seeds");
  out.seeds.resize(nb::len(seeds));
  const bool as_many = out.seeds.size() == out.prompts.size();  // else the core refuses them
  for (size_t i = 0; as_many && i < out.seeds.size(); ++i) out.seeds[i] = to_seed(seeds[i]);
  out.negative = to_text(nb::getattr(asked, "negative"));
  const nb::object size = nb::getattr(asked, "size");
  if (!size.is_none()) {
    const auto [width, height] = nb::cast<Pair>(size);
    out.size = Size{width, height};
  }
  const nb::object skips = nb::getattr(asked, "skip_layer_guidance", nb::none());
  if (!skips.is_none()) out.skip_layer_guidance = to_skips(skips);
  out.ntk = to_value(nb::getattr(asked, "ntk"));
  out.proportional = nb::cast<bool>(nb::getattr(asked, "proportional"));
  to_canvas(asked, out);
  to_embeds(asked, out);
  return out;
}

Sampling to_sampling(nb::handle asked) {
  return {to_preset(asked), to_number("guidance", nb::getattr(asked, "guidance"))};
}

void register_request(nb::module_& m) {
  m.def(
      "exif_orientation",
      [](const nb::bytes& exif) {
        const auto* const data = static_cast<const uint8_t*>(exif.data());
        const std::vector<uint8_t> own(data, data + exif.size());  // without the zero behind it
        return orientation_of(own.data(), own.size());
      },
      "exif"_a,
      "Which way up a picture is, 1 to 8, as EXIF says; 0 if it does not, or is damaged.");
  m.attr("MAX_SEED") = nb::int_(UINT64_MAX);
  m.def(
      "check_request", [](nb::handle asked) { check(to_request(asked), to_sampling(asked)); },
      "request"_a, "Refuse what no model could serve. request: with the attributes of Request.");
  m.def("checked_seed", &to_seed, "seed"_a.none(), nb::sig("def checked_seed(seed: object) -> int"),
        "The seed, if it is one of 64 bits without a sign.");
  m.def(
      "check_texts",
      [](nb::handle asked, const Prompts& prompts) { check_texts(to_request(asked), prompts); },
      "request"_a, "prompts"_a,
      "Refuse a prompt that is none or too long, and any where there is no text encoder.");
}

}  // namespace flagdit::python
