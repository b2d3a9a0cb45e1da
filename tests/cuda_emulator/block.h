// The block that runs: its threads as fibers, and what they wait for.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "context.h"
#include "emulator.h"

namespace emulator {

constexpr size_t kStack = 64 * 1024, kMostThreads = 1024, kMostShared = 48 * 1024;
constexpr int kWarp = 32;

enum class State { ready, at_barrier, in_warp, ended };

struct Thread {
  Context context;
  uint3 index{};
  int lane = 0;
  size_t warp = 0;
  State state = State::ready;
  Site site{};
  // Of the last two exchanges: a lane that runs ahead writes to the other one.
  uint64_t brought[2] = {};
  int turn = 0;
};

class Block {
 public:
  static Block& only() {
    static Block block;
    return block;
  }

  std::string run(const dim3& size, size_t dynamic, const std::function<void()>& kernel);
  void wait(State state, Site site);
  Thread& current() { return threads_[current_]; }
  Thread& lane_of(const Thread& thread, int lane) {
    return threads_[thread.warp * kWarp + static_cast<size_t>(lane)];
  }
  void* shared_bytes(const char* file, int line, size_t bytes);
  void* dynamic() { return dynamic_.data(); }
  void fail(const std::string& what) {
    if (error_.empty()) error_ = what;
  }

 private:
  Block();

  static void enter();
  void begin(const dim3& size);
  void resume(size_t thread);
  void release(size_t first, size_t last, State state);
  std::string stuck() const;

  std::vector<Thread> threads_;
  std::byte* stacks_;
  size_t count_ = 0, current_ = 0, waiting_ = 0, ended_ = 0;
  std::vector<size_t> in_warp_;  // lanes of each warp that wait in an exchange
  std::vector<size_t> ready_;
  Context scheduler_;
  const std::function<void()>* kernel_ = nullptr;
  std::map<std::pair<std::string, int>, std::vector<std::byte>> shared_;
  size_t shared_sum_ = 0;
  std::vector<std::byte> dynamic_;
  std::string error_;
};

std::string at(Site site);
// From the seed on.
uint64_t random_number();

}  // namespace emulator
