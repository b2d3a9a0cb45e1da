#include "flagdit/layout.h"

#include <nanobind/operators.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <array>
#include <string>

#include "arrays.h"
#include "flagdit/checked.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

constexpr int64_t kMostTokens = int64_t{1} << 31;  // ids are int32
constexpr int64_t kMostSide = int64_t{1} << 24;

Layout make(int64_t height, int64_t width, int64_t channels, std::array<int64_t, 3> patch,
            int64_t frames, bool closes_lines, bool closes_frames, int64_t multiple) {
  check_range("Layout: channels", channels, 1, kMostSide);
  check_range("Layout: multiple", multiple, 1, kMostSide);
  const std::array<int64_t, 3> sides{frames, height, width};
  const std::array<const char*, 3> names{"frames", "height", "width"};
  for (size_t axis = 0; axis < 3; ++axis) {
    const std::string name = std::string("Layout: ") + names[axis];
    check_range(name + " of a patch", patch[axis], 1, kMostSide);
    check_range(name, sides[axis], 1, kMostSide);
    if (sides[axis] % patch[axis] != 0)
      refuse(name, std::to_string(sides[axis]), "multiples of " + std::to_string(patch[axis]));
  }
  Layout out{frames,   height,   width,        channels,      patch[0],
             patch[1], patch[2], closes_lines, closes_frames, multiple};
  product("Layout: values", {channels, frames, height, width});
  product("Layout: tokens", {out.depth(), out.lines() + 1, out.columns() + 1});
  check_range("Layout: tokens", out.tokens(), 1, kMostTokens - 1);
  return out;
}

// An array of this type and shape in the memory of the CPU.
Tensor checked(const std::string& name, const Tensor& tensor, DType dtype, const Shape& shape) {
  if (tensor.device != Device::cpu) refuse(name, to_string(tensor.device), "cpu");
  if (tensor.dtype != dtype) refuse(name, to_string(tensor.dtype), to_string(dtype));
  if (!(tensor.shape == shape)) refuse(name, to_string(tensor.shape), to_string(shape));
  return tensor;
}

void fill_patches(const Layout& layout, const ConstArray& token, const Array& out) {
  const Tensor tokens = to_tensor("fill_patches: token", token);
  checked("fill_patches: token", tokens, DType::i32, tokens.shape);
  const Tensor numbers =
      checked("fill_patches: out", to_tensor("fill_patches: out", out), DType::i32, tokens.shape);
  const int64_t count = bytes_of(DType::i32, tokens.shape) / size_of(DType::i32);
  for (int64_t i = 0; i < count; ++i) {
    check_range("fill_patches: token", tokens.as<int32_t>()[i], 0, layout.tokens() - 1);
    numbers.as<int32_t>()[i] = static_cast<int32_t>(layout.patch_of(tokens.as<int32_t>()[i]));
  }
}

Shape latents_of(const Layout& l, int64_t samples) {
  return {samples, l.channels, l.frames, l.height, l.width};
}

Shape patches_of(const Layout& l, int64_t samples) {
  return {l.patches(), samples, l.patch_values()};
}

void cut(const Layout& layout, const ConstArray& latents, const Array& out) {
  const Tensor from = to_tensor("cut: latents", latents);
  const int64_t samples = from.shape.rank > 0 ? from.shape[0] : 0;
  checked("cut: latents", from, DType::f32, latents_of(layout, samples));
  const Tensor to =
      checked("cut: out", to_tensor("cut: out", out), DType::f32, patches_of(layout, samples));
  nb::gil_scoped_release release;
  layout.patchify(from.as<float>(), samples, to.as<float>());
}

void join(const Layout& layout, const ConstArray& patches, const Array& out) {
  const Tensor from = to_tensor("join: patches", patches);
  const int64_t samples = from.shape.rank > 1 ? from.shape[1] : 0;
  checked("join: patches", from, DType::f32, patches_of(layout, samples));
  const Tensor to =
      checked("join: out", to_tensor("join: out", out), DType::f32, latents_of(layout, samples));
  nb::gil_scoped_release release;
  layout.unpatchify(from.as<float>(), samples, to.as<float>());
}

template <typename T>
void fill(const std::string& name, const Array& out, DType dtype, const Shape& shape,
          const std::vector<T>& values) {
  const Tensor tensor = checked(name, to_tensor(name, out), dtype, shape);
  std::copy(values.begin(), values.end(), tensor.as<T>());
}

void register_counts(nb::class_<Layout>& type) {
  type.def_prop_ro("depth", &Layout::depth, "Frames of patches.")
      .def_prop_ro("lines", &Layout::lines, "Lines of patches in a frame.")
      .def_prop_ro("columns", &Layout::columns, "Patches in a line.")
      .def_prop_ro("patches", &Layout::patches)
      .def_prop_ro("pinned", &Layout::pinned, "Tokens without a latent.")
      .def_prop_ro("tokens", &Layout::tokens)
      .def_prop_ro("patch_values", &Layout::patch_values, "P, the values of a patch.")
      .def_prop_ro("stride", &Layout::stride, "Tokens in a line.");
}

void register_arrays(nb::class_<Layout>& type) {
  type.def(
          "fill_slots",
          [](const Layout& l, const Array& out) {
            fill("fill_slots: out", out, DType::i32, {l.tokens()}, l.slots());
          },
          nb::sig("def fill_slots(self, out: Array) -> None"), "out"_a,
          "Fill out (N,) with token ids in the first slot order: those without a latent first.")
      .def(
          "fill_places",
          [](const Layout& l, const Array& out) {
            fill("fill_places: out", out, DType::i64, {l.tokens(), 4}, l.places());
          },
          nb::sig("def fill_places(self, out: Array) -> None"), "out"_a,
          "Fill out (N, 4) with index, frame, line and column of each token; -1: it has none.")
      .def("fill_patches", &fill_patches,
           nb::sig("def fill_patches(self, token: Array, out: Array) -> None"), "token"_a, "out"_a,
           "Fill out with the numbers of the patches of token ids; -1 for one without a latent.")
      .def("cut", &cut, nb::sig("def cut(self, latents: Array, out: Array) -> None"), "latents"_a,
           "out"_a, "Cut latents (B, C, F, H, W) into out (patches, B, P).")
      .def("join", &join, nb::sig("def join(self, patches: Array, out: Array) -> None"),
           "patches"_a, "out"_a, "Put patches (patches, B, P) together to out (B, C, F, H, W).");
}

}  // namespace

void register_layout(nb::module_& m) {
  nb::class_<Layout> type(m, "Layout",
                          "The tokens of latents: where they are, which carry none (layout.h).");
  type.def(
          "__init__",
          [](Layout* self, int64_t height, int64_t width, int64_t channels,
             std::array<int64_t, 3> patch, int64_t frames, bool closes_lines, bool closes_frames,
             int64_t multiple) {
            new (self) Layout(make(height, width, channels, patch, frames, closes_lines,
                                   closes_frames, multiple));
          },
          "height"_a, "width"_a, "channels"_a, "patch"_a, "frames"_a = 1, "closes_lines"_a = false,
          "closes_frames"_a = false, "multiple"_a = 1,
          "patch: its frames, height and width, which divide those of the latents. multiple: of "
          "tokens, up to which those without a place follow the last patch.")
      .def_ro("frames", &Layout::frames)
      .def_ro("height", &Layout::height)
      .def_ro("width", &Layout::width)
      .def_ro("channels", &Layout::channels)
      .def_ro("patch_frames", &Layout::patch_frames)
      .def_ro("patch_height", &Layout::patch_height)
      .def_ro("patch_width", &Layout::patch_width)
      .def_ro("closes_lines", &Layout::closes_lines)
      .def_ro("closes_frames", &Layout::closes_frames)
      .def_ro("multiple", &Layout::multiple)
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__", [](const Layout& l) { return l.height * 65599 + l.width; });
  register_counts(type);
  register_arrays(type);
}

}  // namespace flagdit::python
