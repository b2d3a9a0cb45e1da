// The TensorRT of a build without it.
#include "flagdit/error.h"
#include "flagdit/tensorrt.h"

namespace flagdit {

struct TensorRt::Library {};

bool with_tensorrt() { return false; }

TensorRt::TensorRt(const std::string&) {
  throw Error(Fault::backend,
              "this build has no TensorRT; configure with -DFLAGDIT_CUDA=ON -DFLAGDIT_TENSORRT=ON, "
              "or use another backend");
}

std::string TensorRt::version() const { return {}; }

std::shared_ptr<Session> TensorRt::open(const EnginePlan&) const { return nullptr; }

}  // namespace flagdit
