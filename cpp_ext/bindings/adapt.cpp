#include "flagdit/adapt.h"

#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <utility>
#include <vector>

#include "samplers.h"

namespace flagdit::python {
namespace {

using namespace nb::literals;

using Scores = nb::ndarray<nb::numpy, const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Velocities = nb::ndarray<nb::numpy, const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Ages = nb::ndarray<nb::numpy, const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Future = nb::ndarray<nb::numpy, const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

int64_t size(size_t value) { return static_cast<int64_t>(value); }

nb::ndarray<nb::numpy, double> errors_of(const Scores& score, const Velocities& velocity) {
  if (velocity.shape(0) != score.shape(0) || velocity.shape(1) != score.shape(1))
    throw std::invalid_argument("errors_left: score, velocity: got other patches or samples");
  std::vector<double> out = errors_left(score.data(), velocity.data(), size(score.shape(0)),
                                        size(score.shape(1)), size(velocity.shape(2)));
  const int64_t count = size(out.size());
  return to_array(std::move(out), {count});
}

bool is_forced(const Ages& age, const Future& future, int64_t max_age) {
  if (size(future.shape(0)) <= max_age)
    throw std::invalid_argument("forced: future: got fewer than max_age + 1 entries");
  return forced(age.data(), size(age.shape(0)), size(age.shape(1)), future.data(), max_age);
}

}  // namespace

void register_adapt(nb::module_& m) {
  m.def(
      "errors_left", &errors_of, "score"_a, "velocity"_a,
      nb::sig("def errors_left(score: Array, velocity: Array) -> NDArray[Any]"),
      "Mean error (patches + 1,) of all patches if the k with the highest scores are computed, in "
      "units of each sample's velocity, rms; of the worst sample. score (patches, B), velocity "
      "(patches, B, P), f32.");
  m.def("patches_needed", &patches_needed, "errors"_a, "budget"_a, "bucket"_a = 1,
        "The least number of patches to compute that keeps the error within the budget, in whole "
        "sixteenths of the picture, each a multiple of the bucket.");
  m.def(
      "forced", &is_forced, "age"_a, "future"_a, "max_age"_a,
      nb::sig("def forced(age: Array, future: Array, max_age: int) -> bool"),
      "Whether any patch must be computed now to keep the promise of refresh.h; age (patches, B), "
      "future (max_age + 1,), i32.");
}

}  // namespace flagdit::python
