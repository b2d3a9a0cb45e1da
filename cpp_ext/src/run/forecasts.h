// Forecasts of keys and values in one run: what is moved before each call, and by how much.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "flagdit/buffers.h"
#include "work.h"

namespace flagdit {

class Forecasts {
 public:
  // Takes its tables from the arena: none if the plan forecasts nothing, or `by_token` (kept.h).
  Forecasts(const Plan& plan, const Buffers& buffers, bool by_token, Arena& arena);

  // Once, when the arena has memory.
  void prepare();
  // Writes the numbers of all steps; `works` is empty of a plan that decides as it runs.
  void fill(const std::vector<Work>& works, Stream stream);
  // The numbers of the next step of a plan that decides as it runs.
  void next(const Work& work, Stream stream);

  // What is cached, before the first evaluation of a step: of a dense one only what the next RAS
  // step reads; in a RAS step tokens change places with it.
  void remember(const Work& work, const Tensor& entry, Stream stream) const;
  void repartition(const Work& work, const Tensor& entry, Stream stream) const;
  // Before its second one, at a later time.
  void retarget(const Work& work, const Tensor& entry, Stream stream) const;

 private:
  void note(const Work& work);
  void put(size_t call, size_t evaluation, int64_t slots, double time, double target,
           double damping);
  void move(size_t call, const std::optional<Swaps>& swaps, int64_t active, bool tail,
            const Tensor& entry, Stream stream) const;

  const Plan& plan_;
  const Buffers& buffers_;
  std::vector<Tensor> tables_;                      // of each call: (E, 4) f32, see ForecastTable
  std::vector<std::shared_ptr<std::byte>> hosts_;   // the same for the host
  std::vector<std::vector<CacheForecast>> caches_;  // of each call
  std::vector<std::pair<int64_t, double>> fresh_;   // of each call: slots, and when
};

}  // namespace flagdit
