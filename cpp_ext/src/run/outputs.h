// What the graphs of a text are given and give.
#pragma once

#include <memory>
#include <string>

#include "flagdit/error.h"
#include "flagdit/session.h"

namespace flagdit {

[[noreturn]] inline void refuse_output(const std::string& graph, const Bound& output,
                                       const std::string& allowed) {
  throw Error(Fault::bundle, graph + ": gives " + output.name + " as " +
                                 to_string(output.tensor.dtype) + " " +
                                 to_string(output.tensor.shape) + "; allowed is " + allowed +
                                 "; export the model again");
}

constexpr const char* kBefore = "before the first step";

// Zeros, in memory of their own.
inline Bound made(const std::string& name, DType dtype, const Shape& shape) {
  const auto arena = std::make_shared<Arena>(Device::cpu, bytes_of(dtype, shape) + 256);
  return {name, arena->make(dtype, shape), arena};
}

}  // namespace flagdit
