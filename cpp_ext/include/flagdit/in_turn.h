// A graph that is loaded when it runs, and let go when it has run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "flagdit/session.h"

namespace flagdit {

// Bytes of its files from which on a text encoder is loaded in turn; smaller ones stay.
constexpr int64_t kLoadedInTurn = int64_t{512} << 20;

// About what a text encoder takes while it is loaded, by what its matrices are stored in and the
// bytes of its files (docs/models.md says how that was measured).
int64_t encoder_bytes(const std::string& dtype, int64_t stored);

// For a text encoder that is needed once a run, and may be larger than all that stays: several of
// them never are in memory at once. Threads may share it.
class InTurn : public Session {
 public:
  using Open = std::function<std::shared_ptr<Session>()>;

  // ports: what `open` gives has the same.
  InTurn(std::string graph, std::vector<Port> ports, Open open);

  const std::vector<Port>& ports() const override { return ports_; }
  std::unique_ptr<Binding> bind(const std::vector<Bound>& tensors) override;
  // Throws what `open` throws, too.
  std::vector<Bound> run(const std::vector<Bound>& inputs) override;

  bool loaded() const;
  // Lets go of the graph, once no other thread runs it.
  void rest();

 private:
  std::shared_ptr<Session> opened();

  std::vector<Port> ports_;
  Open open_;
  mutable std::mutex mutex_;
  std::shared_ptr<Session> session_;
};

}  // namespace flagdit
