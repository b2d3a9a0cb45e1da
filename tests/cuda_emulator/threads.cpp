// What a thread asks of its block, and a launch of all blocks.
#include <algorithm>
#include <cstdlib>
#include <random>

#include "block.h"

namespace emulator {

uint64_t random_number() {
  static std::mt19937_64 bits = [] {
    const char* seed = std::getenv("FLAGDIT_EMULATOR_SEED");
    return std::mt19937_64(seed == nullptr ? 0 : std::strtoull(seed, nullptr, 10));
  }();
  return bits();
}

void fill_with_garbage(void* memory, size_t bytes) {
  auto* to = static_cast<unsigned char*>(memory);
  for (size_t n = 0; n < bytes; n += 8) {
    const uint64_t bits = random_number();
    std::memcpy(to + n, &bits, std::min<size_t>(8, bytes - n));
  }
}

void barrier(Site site) { Block::only().wait(State::at_barrier, site); }

uint64_t exchange(Site site, unsigned mask, uint64_t value, int source) {
  Block& block = Block::only();
  Thread& thread = block.current();
  if (mask != 0xffffffffu) block.fail("warp: " + at(site) + " names some lanes, allowed all");
  const int turn = thread.turn;
  thread.turn ^= 1;
  thread.brought[turn] = value;
  block.wait(State::in_warp, site);
  return block.lane_of(thread, source).brought[turn];
}

unsigned vote(Site site, unsigned mask, bool flag) {
  Block& block = Block::only();
  Thread& thread = block.current();
  const int turn = thread.turn;
  exchange(site, mask, flag ? 1 : 0, thread.lane);
  unsigned votes = 0;
  for (int lane = 0; lane < kWarp; ++lane)
    votes |= static_cast<unsigned>(block.lane_of(thread, lane).brought[turn]) << lane;
  return votes;
}

int lane() { return Block::only().current().lane; }

void* shared_bytes(const char* file, int line, size_t bytes) {
  return Block::only().shared_bytes(file, line, bytes);
}

void* dynamic_shared_bytes() { return Block::only().dynamic(); }

std::string run_grid(const Launch& launch, const char* name, const std::function<void()>& kernel) {
  const size_t columns = launch.grid.x, lines = launch.grid.y;
  const size_t blocks = columns * lines * launch.grid.z;
  const size_t first = random_number() % blocks;  // no block may count on another before it
  gridDim = launch.grid;
  blockDim = launch.block;
  for (size_t n = 0; n < blocks; ++n) {
    const size_t block = (first + n) % blocks;
    blockIdx = {static_cast<unsigned>(block % columns),
                static_cast<unsigned>(block / columns % lines),
                static_cast<unsigned>(block / columns / lines)};
    const std::string error = Block::only().run(launch.block, launch.shared, kernel);
    if (!error.empty()) return std::string(name) + ": " + error;
  }
  return {};
}

}  // namespace emulator
