// The CUDA symbols of a build without CUDA.
#include <stdexcept>
#include <string>

#include "advance_kernel.h"
#include "decide_rule.h"
#include "device_cuda.h"
#include "dilate_kernel.h"
#include "finite_kernel.h"
#include "forecast_kernel.h"
#include "graph_kernel.h"
#include "guide_kernel.h"
#include "noise_kernel.h"
#include "pick_kernel.h"
#include "renormalise_kernel.h"
#include "repartition_kernel.h"
#include "select_rule.h"
#include "tick_kernel.h"
#include "upload.h"

namespace flagdit {
namespace {

[[noreturn]] void absent(const std::string& op) {
  throw std::runtime_error(op +
                           ": needs CUDA, and this build has no CUDA kernels; configure with " +
                           "-DFLAGDIT_CUDA=ON");
}

}  // namespace

bool with_cuda() { return false; }

void advance_cuda(const AdvanceKernel&, DType, Stream) { absent("advance"); }
void decide_cuda(const DecideKernel&, Stream) { absent("decide_active"); }
void finite_cuda(const FiniteKernel&, Stream) { absent("count_broken"); }
void guide_cuda(const GuideKernel&, DType, Stream) { absent("guide"); }
void pick_cuda(const PickKernel&, int64_t, Stream) { absent("Picks"); }
void dilate_cuda(const DilateKernel&, Stream) { absent("dilate"); }
void noise_cuda(const NoiseKernel&, Stream) { absent("normal_noise"); }
void select_cuda(const SelectKernel&, Stream) { absent("select"); }
void renormalise_cuda(const RenormaliseKernel&, DType, Stream) { absent("renormalise"); }
void repartition_cuda(const RepartitionKernel&, Stream) { absent("swap"); }
void forecast_cuda(const ForecastKernel&, Stream) { absent("CacheForecast"); }
void tick_cuda(int32_t*, Stream) { absent("tick"); }
std::shared_ptr<void> capture_cuda(Stream, const std::function<void()>&, int64_t*) {
  absent("GraphCache");
}
void replay_cuda(void*, Stream) { absent("GraphCache"); }
std::shared_ptr<const void> upload_cuda(const void*, size_t, const std::string& what) {
  absent(what);
}
Gpu describe_cuda() { return {}; }
std::shared_ptr<std::byte> allocate_zeros_cuda(int64_t) { absent("memory of a GPU"); }
std::shared_ptr<std::byte> pinned_cuda(int64_t) { absent("memory of a GPU"); }
void copy_cuda(void*, const void*, int64_t, Stream) { absent("memory of a GPU"); }
void clear_cuda(void*, int64_t, Stream) { absent("memory of a GPU"); }
void wait_cuda(Stream) { absent("a stream"); }
bool captures_cuda(Stream) { absent("a stream"); }
std::shared_ptr<void> make_stream_cuda() { absent("a stream"); }
std::shared_ptr<void> make_event_cuda() { absent("an event"); }
void record_cuda(void*, Stream) { absent("an event"); }
void hold_cuda(void*, Stream) { absent("an event"); }
void wait_event_cuda(void*) { absent("an event"); }
double seconds_cuda(void*, void*) { absent("an event"); }

}  // namespace flagdit
