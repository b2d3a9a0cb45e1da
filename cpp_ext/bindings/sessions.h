// Sessions of the core and of Python as one thing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "arrays.h"
#include "flagdit/onnxruntime.h"
#include "flagdit/session.h"

namespace flagdit::python {

void register_port(nb::module_& m);
void register_in_turn(nb::module_& m);

// A session of the core as it is; any other object with `ports`, `bind` and `run` as one of the
// core, which keeps it alive.
std::shared_ptr<Session> to_session(const nb::object& object);

// Bytes of anything that has them, such as a memoryview; it keeps them.
Bytes to_bytes(const nb::handle& object);

// Arrays by name as the ports of a session have them: bits of bfloat16 are in arrays of uint16.
std::vector<Bound> to_bound(const std::vector<Port>& ports, const nb::dict& arrays);

// A view for NumPy; `owner` is kept as long as it is.
nb::object to_numpy(const Tensor& tensor, const nb::object& owner);

}  // namespace flagdit::python
