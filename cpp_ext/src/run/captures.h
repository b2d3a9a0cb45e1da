// Which steps of a run are captured as CUDA graphs, and what becomes of them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "flagdit/graph.h"
#include "work.h"

namespace flagdit {

class Captures {
 public:
  // works: all steps to come; none of a plan that decides as it runs. reason: why no step can be
  // captured; empty if they can.
  Captures(const std::vector<Work>& works, std::string reason);

  // Enqueues a step: replays it if it was captured; captures it if it comes again, and `settled`
  // says that it can be; else as it is. Returns the nodes of its graph, 0 if there is none.
  int64_t launch(const Work& work, bool settled, Stream stream,
                 const std::function<void()>& enqueue);

  // The same steps come again: all that were not captured are worth it now.
  void again() { planned_ = false; }

  const std::string& reason() const { return reason_; }

 private:
  bool worthwhile(uint64_t key);

  GraphCache graphs_;
  std::map<uint64_t, int64_t> left_;  // steps to come of each key
  bool planned_;
  std::string reason_;
};

}  // namespace flagdit
