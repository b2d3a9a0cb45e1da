#include "calls.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "clock.h"
#include "flagdit/device.h"

namespace flagdit {
namespace {

// An array for it where the session runs; on the CPU it is there, unless it is written over.
Bound resident(const Bound& given, Arena& arena, Device device, bool changes = false) {
  if (device == Device::cpu && !changes) return given;
  return {given.name, arena.make(given.tensor.dtype, given.tensor.shape)};
}

// Whether a phase changes it.
bool changes(const Conditions& conditions, const std::string& name) {
  return std::any_of(conditions.later.begin(), conditions.later.end(),
                     [&](const auto& phase) { return find(phase.second, name) != nullptr; });
}

void upload(const std::vector<Bound>& to, const std::vector<Bound>& from, Stream stream) {
  for (size_t i = 0; i < to.size(); ++i)
    if (to[i].tensor.data != from[i].tensor.data) write(to[i].tensor, from[i].tensor.data, stream);
}

// Where a call finds the entries of its evaluation, (rows, ...), of arrays (E, R, ...).
std::vector<Bound> current_of(const std::vector<Bound>& timed, int64_t rows, Arena& arena) {
  std::vector<Bound> out;
  for (const Bound& bound : timed) {
    const Shape& all = bound.tensor.shape;
    Shape one(all.sizes.data() + 1, all.rank - 1);
    one.sizes[0] = rows;
    out.push_back({bound.name, arena.make(bound.tensor.dtype, one)});
  }
  return out;
}

// The rows of a call of what has a row for each sample and branch, and all of what has not.
std::vector<Bound> rows_of(const Session& session, const std::vector<Bound>& given,
                           const Call& call) {
  std::vector<Bound> out;
  for (const Bound& bound : given) {
    const bool rows = session.port(bound.name).starts("R");
    out.push_back({bound.name,
                   rows ? slots_of(bound.tensor, call.first_row, call.rows) : bound.tensor,
                   bound.memory});
  }
  return out;
}

// No token of a text that would be computed; a bias of its keys stays, for they are attended to.
Bound without_text(const Port& port, Bound bound) {
  if (port.text()) bound.tensor.shape.sizes[1] = 0;
  return bound;
}

}  // namespace

Calls::Calls(Session& session, const Conditions& conditions, const Buffers& buffers,
             const Plan& plan, Arena& arena)
    : session_(session), given_(conditions), buffers_(buffers), plan_(plan), arena_(arena) {
  const Device device = session.device();
  for (const Bound& timed : conditions.timed) timed_.push_back(resident(timed, arena, device));
  for (const Call& call : buffers.calls) {
    std::vector<Bound> own;
    for (const Bound& bound : rows_of(session, conditions.constant, call))
      own.push_back(resident(bound, arena, device, changes(conditions, bound.name)));
    constant_.push_back(std::move(own));
    current_.push_back(current_of(timed_, call.rows, arena));
  }
}

void Calls::fill(Stream stream) {
  for (size_t call = 0; call < constant_.size(); ++call)
    upload(constant_[call], rows_of(session_, given_.constant, buffers_.calls[call]), stream);
  upload(timed_, given_.timed, stream);
}

void Calls::place_anew(const std::vector<Bound>& anew, Stream stream) {
  for (const std::vector<Bound>& own : constant_)
    for (const Bound& bound : own)
      if (const Bound* with = find(anew, bound.name))
        write(bound.tensor, with->tensor.data, stream);
}

void Calls::prepare() {
  for (size_t call = 0; call < current_.size(); ++call) {
    std::vector<PickTable> tables;
    int64_t entries = 1;
    for (size_t i = 0; i < timed_.size(); ++i) {
      const Tensor &all = timed_[i].tensor, &one = current_[call][i].tensor;
      entries = all.shape[0];
      const int64_t entry = bytes_of(all.dtype, all.shape) / entries;
      const int64_t row = entry / all.shape[1];
      tables.push_back({all.data, one.data, entry, buffers_.calls[call].first_row * row,
                        bytes_of(one.dtype, one.shape)});
    }
    picks_.emplace_back(std::move(tables), entries, session_.device());
  }
}

double Calls::run(int64_t active, size_t calls, const Tensor& entry,
                  const std::vector<Tails>* tails, Stream stream) {
  double seconds = 0.0;
  for (size_t call = 0; call < calls; ++call) {
    Binding& binding = bound(active, call);
    // To copy an entry costs less than to bind it where it lies, and a graph needs one place.
    picks_[call].copy(entry, stream);
    const Clock::time_point start = Clock::now();
    if (tails == nullptr)
      binding.run(stream);
    else
      binding.run_with((*tails)[call]);
    seconds += seconds_since(start);
  }
  return seconds;
}

bool Calls::settled(int64_t active, size_t calls) const {
  for (size_t call = 0; call < calls; ++call) {
    const auto at = bindings_.find({active, call});
    if (at == bindings_.end() || !at->second->settled()) return false;
  }
  return true;
}

Binding& Calls::bound(int64_t active, size_t call) {
  std::unique_ptr<Binding>& binding = bindings_[{active, call}];
  if (binding == nullptr) {
    const bool rests = plan_.rests_with(active);
    std::vector<Bound> all = buffers_.head(active, call, rests);
    for (const Bound& bound : constant_[call])
      all.push_back(rests ? without_text(session_.port(bound.name), bound) : bound);
    all.insert(all.end(), current_[call].begin(), current_[call].end());
    for (Bound& bound : all)
      if (bound.memory == nullptr) bound.memory = arena_.memory();
    binding = session_.bind(all);
  }
  return *binding;
}

}  // namespace flagdit
