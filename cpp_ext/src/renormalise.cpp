#include "flagdit/renormalise.h"

#include "check.h"
#include "renormalise_kernel.h"

namespace flagdit {
namespace {

void check_head(const RenormaliseArgs& args) {
  const Tensor& output = args.output;
  const bool half = output.dtype == DType::f16 || output.dtype == DType::bf16;
  if (output.dtype != DType::f32 && !(half && output.device == Device::cuda))
    refuse("renormalise: output", describe(output), "float32; on cuda also float16, bfloat16");
  const int64_t samples = args.token.shape[1], rows = output.shape[1];
  if (rows != (args.guided ? samples : 2 * samples))
    refuse("renormalise: rows of the output",
           std::to_string(rows) + " for " + std::to_string(samples) + " samples",
           "those of both branches, or of one with guided");
  if (args.guided)
    check_tensor("renormalise: guided", *args.guided, output.dtype, output.shape, output.device);
  check_range("renormalise: slots of the output", output.shape[0], args.pinned,
              args.token.shape[0]);
}

void check(const RenormaliseArgs& args) {
  check_rank("renormalise: output", args.output, 3);
  check_rank("renormalise: token", args.token, 2);
  const NormGroups& of = args.groups;
  const int64_t slots = args.token.shape[0], samples = args.token.shape[1];
  const int64_t values = args.output.shape[2];
  const Device device = args.output.device;
  check_range("renormalise: pinned", args.pinned, 0, slots);
  check_head(args);
  if (of.groups < 1 || values % of.groups != 0)
    refuse("renormalise: groups", std::to_string(of.groups),
           "a divisor of the " + std::to_string(values) + " values of a token");
  check_range("renormalise: stride", of.stride, 1, INT32_MAX);
  check_range("renormalise: lines", of.lines, 1, INT32_MAX);
  check_tensor("renormalise: guidance", args.guidance, DType::f32, {values}, device);
  check_tensor("renormalise: token", args.token, DType::i32, {slots, samples}, device);
  check_tensor("renormalise: norms", args.norms, DType::f32, {slots, samples, of.groups, 2},
               device);
  check_tensor("renormalise: factors", args.factors, DType::f32, {samples, of.lines, of.groups},
               device);
}

}  // namespace

Renormalise renormalise_of(const std::string& name) {
  if (name == "none") return Renormalise::none;
  if (name == "picture") return Renormalise::picture;
  if (name == "line") return Renormalise::line;
  refuse("renormalise", name, "none, picture, line");
}

NormGroups NormGroups::of(const Layout& layout, Renormalise how) {
  if (how != Renormalise::line) return {1, layout.tokens(), 1, true};
  return {layout.patch_values() / layout.patch_width, layout.stride(),
          layout.depth() * layout.lines(), false};
}

void renormalise(const RenormaliseArgs& args, Stream stream) {
  check(args);
  const Shape& head = args.output.shape;
  const RenormaliseKernel kernel{args.output.data,
                                 args.guided ? args.guided->data : nullptr,
                                 args.guidance.as<float>(),
                                 args.token.as<int32_t>(),
                                 args.norms.as<float>(),
                                 args.factors.as<float>(),
                                 args.token.shape[0],
                                 head[0],
                                 args.pinned,
                                 args.token.shape[1],
                                 args.guided ? 1 : 2,
                                 head[2],
                                 args.groups};
  if (args.output.device == Device::cpu) {
    renormalise_cpu(kernel);
  } else {
    renormalise_cuda(kernel, args.output.dtype, stream);
  }
}

}  // namespace flagdit
