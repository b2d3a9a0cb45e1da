// What there is to see of a sampler, for NumPy.
#pragma once

#include <initializer_list>
#include <utility>
#include <vector>

#include "flagdit/sampler.h"
#include "sessions.h"

namespace flagdit::python {

// Values in memory that their array owns.
template <typename T>
nb::ndarray<nb::numpy, T> to_array(std::vector<T> values, std::initializer_list<int64_t> shape) {
  auto* kept = new std::vector<T>(std::move(values));
  const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  const std::vector<size_t> sizes(shape.begin(), shape.end());
  return nb::ndarray<nb::numpy, T>(kept->data(), sizes.size(), sizes.data(), owner);
}

nb::ndarray<nb::numpy, float> latents_of(const Sampler& sampler, double ahead);
nb::ndarray<nb::numpy, int16_t> ages_of(const Sampler& sampler);
nb::ndarray<nb::numpy, int16_t> all_ages_of(const Sampler& sampler);
// Views of every array that it keeps, by name; `owner` keeps it.
nb::dict state_of(const Sampler& sampler, const nb::object& owner);

}  // namespace flagdit::python
