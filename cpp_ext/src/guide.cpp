#include "flagdit/guide.h"

#include "check.h"
#include "guide_kernel.h"

namespace flagdit {
namespace {

void check(const GuideArgs& args) {
  const Tensor& conditional = args.conditional;
  check_rank("guide: conditional", conditional, 3);
  check_rank("guide: difference", args.difference, 3);
  const bool half = conditional.dtype == DType::f16 || conditional.dtype == DType::bf16;
  if (conditional.dtype != DType::f32 && !(half && conditional.device == Device::cuda))
    refuse("guide: conditional", describe(conditional), "float32; on cuda also float16, bfloat16");
  const Shape& head = conditional.shape;
  const Shape all{args.difference.shape[0], head[1], head[2]};
  check_range("guide: slots of the conditional output", head[0], 0, all[0]);
  const Device device = conditional.device;
  if (args.unconditional)
    check_tensor("guide: unconditional", *args.unconditional, conditional.dtype, head, device);
  if (args.skipping.has_value() != args.skip_guidance.has_value())
    refuse("guide: skipping, skip_guidance", "one of them", "both or none");
  if (args.skipping) {
    check_tensor("guide: skipping", *args.skipping, conditional.dtype, head, device);
    check_tensor("guide: skip_guidance", *args.skip_guidance, DType::f32, {head[2]}, device);
  }
  check_tensor("guide: guidance", args.guidance, DType::f32, {head[2]}, device);
  check_tensor("guide: difference", args.difference, DType::f32, all, device);
  check_tensor("guide: guided", args.guided, conditional.dtype, all, device);
}

}  // namespace

void guide(const GuideArgs& args, Stream stream) {
  check(args);
  const Shape& head = args.conditional.shape;
  const GuideKernel kernel{args.conditional.data,
                           args.unconditional ? args.unconditional->data : nullptr,
                           args.skipping ? args.skipping->data : nullptr,
                           args.guidance.as<float>(),
                           args.skip_guidance ? args.skip_guidance->as<float>() : nullptr,
                           args.difference.as<float>(),
                           args.guided.data,
                           head[0] * head[1] * head[2],
                           head[2]};
  if (args.conditional.device == Device::cpu) {
    guide_cpu(kernel);
  } else {
    guide_cuda(kernel, args.conditional.dtype, stream);
  }
}

}  // namespace flagdit
