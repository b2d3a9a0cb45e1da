#include "flagdit/dilate.h"

#include <algorithm>
#include <string>

#include "check.h"
#include "dilate_kernel.h"

namespace flagdit {
namespace {

void check(const DilateArgs& args) {
  check_rank("dilate: score", args.score, 2);
  const int64_t slots = args.score.shape[0], samples = args.score.shape[1];
  const Device device = args.score.device;
  check_tensor("dilate: score", args.score, DType::f32, {slots, samples}, device);
  check_tensor("dilate: token", args.token, DType::i32, {slots, samples}, device);
  check_tensor("dilate: grid", args.grid, DType::f32, {samples, slots}, device);
  check_range("dilate: pinned", args.pinned, 0, slots);
  check_range("dilate: line", args.line, 1, std::max<int64_t>(slots, 1));
  if (!(args.share >= 0.0f && args.share <= 1.0f)) {
    refuse("dilate: share", std::to_string(args.share), "0 to 1");
  }
}

}  // namespace

void dilate(const DilateArgs& args, Stream stream) {
  check(args);
  const DilateKernel kernel{args.score.as<float>(),
                            args.token.as<int32_t>(),
                            args.grid.as<float>(),
                            args.score.shape[0],
                            args.score.shape[1],
                            args.line,
                            args.pinned,
                            args.share};
  if (args.score.device == Device::cpu) {
    dilate_cpu(kernel);
  } else {
    dilate_cuda(kernel, stream);
  }
}

}  // namespace flagdit
