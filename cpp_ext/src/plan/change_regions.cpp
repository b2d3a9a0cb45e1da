// A preset's regions with another ratio, for another number of steps, with other fields.
#include <algorithm>
#include <set>
#include <utility>

#include "flagdit/resolve.h"

namespace flagdit {
namespace {

using Ratios = std::vector<Number>;

// The index of the first ratio below 1; as many as there are if all are dense.
int64_t first_sparse(const Ratios& ratios) {
  const auto sparse =
      std::find_if(ratios.begin(), ratios.end(), [](const Number& ratio) { return ratio < 1; });
  return sparse - ratios.begin();
}

// A list of ratios with no more dense steps than a `warmup` and `resets` that are said leave to it.
Ratios opened(Ratios ratios, const Changes& changes) {
  const auto count = static_cast<int64_t>(ratios.size());
  const int64_t first = first_sparse(ratios);
  if (first == count) return ratios;
  const auto at = [&](int64_t i) -> Number& { return ratios[static_cast<size_t>(i)]; };
  if (const Value* said = find(changes, "warmup")) {
    Regions read;
    set_field(read, "warmup", *said);
    for (int64_t i = std::max<int64_t>(read.budget.warmup, 0); i < first; ++i) at(i) = at(first);
  }
  if (find(changes, "resets") == nullptr) return ratios;
  for (int64_t i = first + 1; i < count; ++i) {
    if (at(i) == 1) at(i) = at(i - 1);
  }
  return ratios;
}

// For a list of ratios that says which steps are dense: nothing else does.
void leave_to_list(Regions& out, const Ratios& ratios, int64_t count) {
  RegionBudget& budget = out.budget;
  const int64_t first = first_sparse(ratios);
  budget.warmup = std::max<int64_t>(1, first < static_cast<int64_t>(ratios.size()) ? first : count);
  budget.ratio_end.reset();
  budget.skip_step = budget.skip_every = 0;
  budget.resets.emplace();
  budget.end.reset();
}

// Where each of `count` steps lies among `steps` others.
std::vector<size_t> places_of(int64_t steps, int64_t count) {
  std::vector<size_t> out;
  for (int64_t i = 0; i < count; ++i) {
    const double middle =
        (static_cast<double>(i) + 0.5) / static_cast<double>(count) * static_cast<double>(steps) -
        0.5;
    out.push_back(static_cast<size_t>(std::clamp<int64_t>(rounded(middle), 0, steps - 1)));
  }
  return out;
}

}  // namespace

Regions changed(const Regions& regions, const Changes& said, int64_t count) {
  Changes changes = said;
  Regions out = regions;
  const Value* ratio = find(changes, "ratio");
  const Ratios* list = ratio == nullptr ? nullptr : std::get_if<Ratios>(ratio);
  const PerStep share = out.share();
  const Ratios* own = std::get_if<Ratios>(&share);
  if (list != nullptr) {
    leave_to_list(out, *list, count);
  } else if (own != nullptr) {
    const Ratios ratios = opened(*own, changes);
    out.budget.ratio = ratios;
    if (find(changes, "ratio_end") != nullptr) {
      Regions read;
      set_field(read, "ratio_end", take(changes, "ratio_end"));
      const auto first = static_cast<size_t>(first_sparse(ratios));
      const Number start = first < ratios.size() ? ratios[first] : Number(1.0);
      out = with_ratio(out, {start, read.budget.ratio_end}, count);
    }
  }
  for (const auto& [name, value] : changes) set_field(out, name, value);
  return out;
}

Regions with_ratio(const Regions& regions, const SaidRatio& ratio, int64_t steps) {
  Regions out = regions;
  out.budget.ratio = ratio.first;
  out.budget.ratio_end = ratio.last;
  if (regions.paper() || regions.budget.skip_every != 0) return out;
  const PerStep ratios = regions.ratios(steps);
  const Number* one = std::get_if<Number>(&ratios);
  const Ratios shares =
      one == nullptr ? std::get<Ratios>(ratios) : Ratios(static_cast<size_t>(steps), *one);
  const auto count = static_cast<int64_t>(shares.size());
  int64_t sparse = std::max<int64_t>(regions.budget.warmup, 0);
  while (sparse < count && !(shares[static_cast<size_t>(sparse)] < 1)) ++sparse;
  if (sparse >= count) {
    out = Regions{};
    out.budget.ratio = ratio.first;
    out.budget.ratio_end = ratio.last;
    out.budget.warmup = (2 * steps + 4) / 5;
    out.budget.resets = std::vector<int64_t>{-1};
    return out;
  }
  std::set<int64_t> dense;
  for (int64_t i = sparse + 1; i < count; ++i) {
    if (shares[static_cast<size_t>(i)] == 1) dense.insert(i);
  }
  out.budget.warmup = sparse;
  if (dense.empty()) return out;
  if (regions.budget.resets) {
    const std::vector<int64_t> kept = regions.resets_of(steps);
    dense.insert(kept.begin(), kept.end());
  }
  out.budget.resets = std::vector<int64_t>(dense.begin(), dense.end());
  return out;
}

Regions resized(const Regions& regions, int64_t steps, int64_t count) {
  const std::vector<size_t> places = places_of(steps, count);
  Regions out = regions;
  if (const auto* shares = std::get_if<Ratios>(&regions.forecast.caches)) {
    Ratios stretched;
    for (size_t place : places) stretched.push_back(shares->at(place));
    stretched.back() = shares->at(static_cast<size_t>(steps) - 1);
    out.forecast.caches = std::move(stretched);
  }
  const PerStep share = regions.share();
  if (const Number* one = std::get_if<Number>(&share)) {
    const double warmup = static_cast<double>(regions.budget.warmup * count);
    if (*one != 1) {
      out.budget.warmup = std::max<int64_t>(1, rounded(warmup / static_cast<double>(steps)));
    }
    return out;
  }
  const auto& ratios = std::get<Ratios>(share);
  Ratios stretched;
  for (size_t place : places) stretched.push_back(ratios.at(place));
  stretched.back() = ratios.back();
  stretched.front() = 1.0;  // nothing is cached yet, in a single step too
  out.budget.warmup = first_sparse(stretched);
  out.budget.ratio = std::move(stretched);
  return out;
}

}  // namespace flagdit
