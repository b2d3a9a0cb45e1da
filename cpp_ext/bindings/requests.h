// Requests of Python, by their attributes.
#pragma once

#include "flagdit/request.h"
#include "options.h"

namespace flagdit::python {

Request to_request(nb::handle asked);
Sampling to_sampling(nb::handle asked);
void register_request(nb::module_& m);

}  // namespace flagdit::python
