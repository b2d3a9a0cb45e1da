#include "cuda_check.h"
#include "select_rule.h"

namespace flagdit {
namespace {

constexpr int kThreads = 1024;  // one block for each sample
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBits = 8;  // of a code, in one pass
constexpr int kBins = 1 << kBits;
constexpr int kWeights = 256;  // more drops than a plan has steps

// exp() in double is slow where FP64 units are few, and it depends on two small integers only.
struct WeightTable {
  float high[kWeights], low[kWeights];
};

struct Weigh {
  const WeightTable* table;
  float high_rate, low_rate;

  __device__ float operator()(Order order, int32_t drops) const {
    const bool low = order == Order::low;
    if (drops < 0 || drops >= kWeights) return weight(low ? low_rate : high_rate, drops);
    return low ? table->low[drops] : table->high[drops];
  }
};

using CudaRule = Rule<Weigh>;

struct Shared {
  WeightTable weights;
  int32_t bins[kBins];
  int32_t ages[kMaxAge + 1];
  int32_t warps[kWarps];
  Forced forced;
  uint64_t prefix;  // of the code that is looked for
  int64_t rank;     // of it among the candidates with this prefix, from 1
  bool unique;      // no other candidate has this prefix
};

__device__ void fill_weights(const SelectKernel& k, WeightTable& table) {
  for (int drops = threadIdx.x; drops < kWeights; drops += kThreads) {
    table.high[drops] = weight(k.high_rate, drops);
    table.low[drops] = weight(k.low_rate, drops);
  }
  __syncthreads();
}

__device__ Forced find_forced(const SelectKernel& k, int64_t sample, Shared& shared) {
  if (k.max_age < 0) return {kNeverForced, 0};
  for (int age = threadIdx.x; age <= k.max_age; age += kThreads) shared.ages[age] = 0;
  __syncthreads();
  for (int64_t slot = k.pinned + threadIdx.x; slot < k.slots; slot += kThreads) {
    atomicAdd(&shared.ages[clamp_age(k.age[slot * k.samples + sample], k.max_age)], 1);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    shared.forced = count_forced(shared.ages, future_entry(k), k.max_age, k.active - k.pinned);
  }
  __syncthreads();
  return shared.forced;
}

// Writes the candidates' codes; the largest possible code stands for "no candidate". Ranks count
// candidates only, so it is never reached.
__device__ void write_keys(const SelectKernel& k, const CudaRule& rule, int64_t sample,
                           Order order) {
  uint64_t* codes = k.codes + sample * k.slots;
  for (int64_t slot = k.pinned + threadIdx.x; slot < k.slots; slot += kThreads) {
    const Token token = load_token(k, sample, slot);
    codes[slot] = rule.candidate(order, token) ? rule.code(order, token) : UINT64_MAX;
  }
}

__device__ void count_bins(const SelectKernel& k, int64_t sample, int shift, Shared& shared) {
  for (int bin = threadIdx.x; bin < kBins; bin += kThreads) shared.bins[bin] = 0;
  __syncthreads();
  const uint64_t* codes = k.codes + sample * k.slots;
  const int above = shift + kBits;
  for (int64_t slot = k.pinned + threadIdx.x; slot < k.slots; slot += kThreads) {
    const uint64_t code = codes[slot];
    const bool matches = above == 64 || code >> above == shared.prefix;
    if (matches) atomicAdd(&shared.bins[code >> shift & (kBins - 1)], 1);
  }
  __syncthreads();
}

__device__ int32_t sum_up_to(int32_t value, int lane) {
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int32_t below = __shfl_up_sync(0xffffffffu, value, offset);
    if (lane >= offset) value += below;
  }
  return value;
}

// Extends the prefix by the bin that the rank falls into. One warp looks for it, each lane in its
// share of the bins, and one lane finds it: the bins hold `rank` codes or more.
__device__ void descend(Shared& shared) {
  constexpr int kShare = kBins / kWarp;
  if (threadIdx.x < kWarp) {
    const int first = threadIdx.x * kShare;
    int32_t own = 0;
    for (int bin = first; bin < first + kShare; ++bin) own += shared.bins[bin];
    const int64_t rank = shared.rank, last = sum_up_to(own, threadIdx.x);
    __syncwarp();  // all lanes have read the rank
    if (rank > last - own && rank <= last) {
      int64_t left = rank - (last - own);
      int bin = first;
      while (left > shared.bins[bin]) left -= shared.bins[bin++];
      shared.rank = left;
      shared.prefix = shared.prefix << kBits | bin;
      shared.unique = shared.bins[bin] == 1;
    }
  }
  __syncthreads();
}

// The code of the rank-th candidate (from 1), or 0 for none, by radix selection. Stops as soon as
// the prefix belongs to one candidate only, and then returns the largest code with that prefix.
__device__ uint64_t threshold(const SelectKernel& k, const CudaRule& rule, int64_t sample,
                              Order order, int64_t rank, Shared& shared) {
  if (rank == 0) return 0;
  write_keys(k, rule, sample, order);
  if (threadIdx.x == 0) {
    shared.prefix = 0;
    shared.rank = rank;
    shared.unique = false;
  }
  __syncthreads();
  int shift = 64;
  while (shift > 0 && !shared.unique) {
    shift -= kBits;
    count_bins(k, sample, shift, shared);
    descend(shared);
  }
  const uint64_t code = shift == 0 ? shared.prefix : ((shared.prefix + 1) << shift) - 1;
  __syncthreads();  // the next threshold overwrites the prefix
  return code;
}

__device__ CudaRule choose(const SelectKernel& k, int64_t sample, Shared& shared) {
  CudaRule rule{k.max_age, {&shared.weights, k.high_rate, k.low_rate}, {}};
  const Forced forced = find_forced(k, sample, shared);
  rule.choice.age = forced.age;
  rule.choice.forced = threshold(k, rule, sample, Order::forced, forced.count, shared);
  rule.choice.high = threshold(k, rule, sample, Order::high, k.high, shared);
  rule.choice.low = threshold(k, rule, sample, Order::low, k.low, shared);
  return rule;
}

// How many threads before this one hold `flag`, and into `total` how many do in the block.
__device__ int32_t count_before(bool flag, int32_t& total, int32_t* warps) {
  const unsigned votes = __ballot_sync(0xffffffffu, flag);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  __syncthreads();  // the previous call's sums have been read
  if (lane == 0) warps[warp] = __popc(votes);
  __syncthreads();
  int32_t before = __popc(votes & ((1u << lane) - 1));
  total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += warps[w];
    total += warps[w];
  }
  return before;
}

// Writes the slots in [first, last) whose token is active, or is not, in ascending order to every
// second place of `out`. Returns how many.
__device__ int32_t list_slots(const SelectKernel& k, const CudaRule& rule, int64_t sample,
                              int64_t first, int64_t last, bool active, int32_t* out,
                              int32_t* warps) {
  int32_t count = 0;
  for (int64_t tile = first; tile < last; tile += kThreads) {
    const int64_t slot = tile + threadIdx.x;
    const bool listed = slot < last && rule.is_active(load_token(k, sample, slot)) == active;
    int32_t total = 0;
    const int64_t at = count + count_before(listed, total, warps);
    if (listed && at < k.slots) out[2 * at] = static_cast<int32_t>(slot);
    count += total;
  }
  return count;
}

__global__ void __launch_bounds__(kThreads) select_tokens(SelectKernel k) {
  __shared__ Shared shared;
  const int64_t sample = blockIdx.x;
  fill_weights(k, shared.weights);
  const CudaRule rule = choose(k, sample, shared);
  int32_t* swaps = k.swaps + sample * k.slots * 2;
  const int32_t leaves =
      list_slots(k, rule, sample, k.pinned, k.active, false, swaps, shared.warps);
  const int32_t enters =
      list_slots(k, rule, sample, k.active, k.slots, true, swaps + 1, shared.warps);
  if (threadIdx.x == 0) k.counts[sample] = min(leaves, enters);  // equal unless token ids repeat
}

}  // namespace

void select_cuda(const SelectKernel& kernel, Stream stream) {
  if (kernel.samples == 0) return;
  const auto blocks = static_cast<unsigned>(kernel.samples);
  select_tokens<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  check_cuda(cudaGetLastError(), "select: launch");
}

}  // namespace flagdit
