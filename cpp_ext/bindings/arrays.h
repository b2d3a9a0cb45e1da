// NumPy and DLPack arrays as the core's views, without copies.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string>

#include "flagdit/advance.h"
#include "flagdit/plan.h"
#include "flagdit/repartition.h"
#include "flagdit/solver.h"
#include "flagdit/tensor.h"

namespace flagdit::python {

namespace nb = nanobind;

// Any dtype, shape and device: the core checks them, with better messages than a type mismatch.
using Array = nb::ndarray<>;
using ConstArray = nb::ndarray<nb::ro>;

Tensor to_tensor(const std::string& name, const Array& array);
Tensor to_tensor(const std::string& name, const ConstArray& array);

// A path or a file's name, in the bytes that the system has for it: of those that are no UTF-8 Python
// makes surrogates. Throws Error(bundle) for what no file can be called.
std::string to_path(const nb::str& path);

inline Stream to_stream(uintptr_t stream) { return reinterpret_cast<Stream>(stream); }

struct SlotView {
  SlotBuffer buffer;
  int64_t slots;
  Device device;
};

SlotView to_slots(const std::string& name, const Array& array);

Mode to_mode(const std::string& op, const std::string& name);
Metric to_metric(const std::string& op, const std::string& name);
Solver to_solver(const std::string& op, const std::string& name);

void register_errors(nb::module_& m);
void register_plan(nb::module_& m);
void register_plan_data(nb::module_& m);
void register_make_plan(nb::module_& m);
void register_price(nb::module_& m);
void register_resolve(nb::module_& m);
void register_job(nb::module_& m);
void register_solver(nb::module_& m);
void register_ops(nb::module_& m);
void register_between(nb::module_& m);
void register_slots(nb::module_& m);
void register_noise(nb::module_& m);
void register_forecast(nb::module_& m);
void register_layout(nb::module_& m);
void register_session(nb::module_& m);
void register_sampler(nb::module_& m);
void register_run(nb::module_& m);
void register_adapt(nb::module_& m);
void register_text(nb::module_& m);
void register_bundle(nb::module_& m);
void register_manifest(nb::module_& m);
void register_device(nb::module_& m);
void register_device_memory(nb::module_& m);
void register_engines(nb::module_& m);

}  // namespace flagdit::python
