#include "block.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

#ifdef __x86_64__
asm(R"(
.text
.type flagdit_emulator_exchange_stacks, @function
flagdit_emulator_exchange_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#endif

namespace emulator {

std::string at(Site site) {
  const std::string file = site.file;
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line);
}

Block::Block() : threads_(kMostThreads) {
  void* memory = mmap(nullptr, kStack * kMostThreads, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  stacks_ = static_cast<std::byte*>(memory);
}

void Block::enter() {
  Block& block = only();
  (*block.kernel_)();
  Thread& thread = block.current();
  thread.state = State::ended;
  thread.context.switch_to(block.scheduler_);
  std::abort();  // an ended thread is not gone on with
}

void Block::begin(const dim3& size) {
  count_ = size_t{size.x} * size.y * size.z;
  waiting_ = ended_ = 0;
  in_warp_.assign((count_ + kWarp - 1) / kWarp, 0);
  ready_.clear();
  for (size_t n = 0; n < count_; ++n) {
    Thread& thread = threads_[n];
    thread.index = {static_cast<unsigned>(n % size.x), static_cast<unsigned>(n / size.x % size.y),
                    static_cast<unsigned>(n / size.x / size.y)};
    thread.lane = static_cast<int>(n % kWarp);
    thread.warp = n / kWarp;
    thread.state = State::ready;
    thread.turn = 0;
    thread.context.begin(stacks_ + n * kStack, kStack, enter);
    ready_.push_back(n);
  }
}

void Block::resume(size_t n) {
  current_ = n;
  Thread& thread = threads_[n];
  threadIdx = thread.index;
  scheduler_.switch_to(thread.context);
  switch (thread.state) {
    case State::ready:
      ready_.push_back(n);
      break;
    case State::at_barrier:
      if (++waiting_ == count_) {
        waiting_ = 0;
        release(0, count_, State::at_barrier);
      }
      break;
    case State::in_warp:
      if (++in_warp_[thread.warp] == kWarp) {
        in_warp_[thread.warp] = 0;
        release(thread.warp * kWarp, (thread.warp + 1) * kWarp, State::in_warp);
      }
      break;
    case State::ended:
      ++ended_;
  }
}

// Lets threads go on that have all arrived: at one place, or they would not have met on a GPU.
void Block::release(size_t first, size_t last, State state) {
  const Site met = threads_[first].site;
  for (size_t n = first; n < last; ++n) {
    const Site site = threads_[n].site;
    if (site.line != met.line || std::string(site.file) != met.file)
      fail((state == State::at_barrier ? "barrier: threads of a block wait at "
                                       : "warp: lanes wait at ") +
           at(met) + " and at " + at(site));
    threads_[n].state = State::ready;
    ready_.push_back(n);
  }
}

// Nothing can go on, and not all have ended.
std::string Block::stuck() const {
  for (size_t n = 0; n < count_; ++n) {
    const Thread& thread = threads_[n];
    if (thread.state == State::in_warp)
      return "warp: " + at(thread.site) + " is reached by " +
             std::to_string(in_warp_[thread.warp]) + " of 32 lanes";
  }
  for (size_t n = 0; n < count_; ++n) {
    const Thread& thread = threads_[n];
    if (thread.state == State::at_barrier)
      return "barrier: " + at(thread.site) + " is reached by " + std::to_string(waiting_) + " of " +
             std::to_string(count_) + " threads; " + std::to_string(ended_) + " have ended";
  }
  return "threads are lost";
}

std::string Block::run(const dim3& size, size_t dynamic, const std::function<void()>& kernel) {
  error_.clear();
  kernel_ = &kernel;
  shared_.clear();
  shared_sum_ = dynamic;
  dynamic_.resize(dynamic);
  fill_with_garbage(dynamic_.data(), dynamic);
  begin(size);
  while (error_.empty() && !ready_.empty()) {
    const size_t chosen = random_number() % ready_.size();
    const size_t thread = std::exchange(ready_[chosen], ready_.back());
    ready_.pop_back();
    resume(thread);
  }
  if (error_.empty() && ended_ < count_) error_ = stuck();
  return error_;
}

void Block::wait(State state, Site site) {
  Thread& thread = current();
  thread.state = state;
  thread.site = site;
  thread.context.switch_to(scheduler_);
}

void* Block::shared_bytes(const char* file, int line, size_t bytes) {
  std::vector<std::byte>& memory = shared_[{file, line}];
  if (memory.empty()) {
    memory.resize(bytes);
    fill_with_garbage(memory.data(), bytes);
    shared_sum_ += bytes;
    if (shared_sum_ > kMostShared)
      fail("shared memory: a block takes " + std::to_string(shared_sum_) + " bytes, allowed " +
           std::to_string(kMostShared));
  }
  return memory.data();
}

}  // namespace emulator
