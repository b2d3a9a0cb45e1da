#include "arrays.h"
#include "flagdit/amx.h"

NB_MODULE(_ext, m) {
  // What a program of the user still holds when Python ends, such as a session that is written in
  // Python, the system frees.
  nanobind::set_leak_warnings(false);
  m.doc() = "Region-adaptive sampling between calls of `denoise`: the C++/CUDA core.";
  m.def("with_cuda", &flagdit::with_cuda,
        "Whether this build has CUDA kernels. Says nothing about whether there is a GPU.");
  m.def("has_amx", &flagdit::has_amx,
        "Whether this CPU and its system lend tiles of int8 and bf16, which the fast operators "
        "need.");
  flagdit::python::register_errors(m);
  flagdit::python::register_plan(m);
  flagdit::python::register_solver(m);
  flagdit::python::register_plan_data(m);
  flagdit::python::register_make_plan(m);
  flagdit::python::register_price(m);
  flagdit::python::register_resolve(m);
  flagdit::python::register_ops(m);
  flagdit::python::register_between(m);
  flagdit::python::register_slots(m);
  flagdit::python::register_noise(m);
  flagdit::python::register_forecast(m);
  flagdit::python::register_layout(m);
  flagdit::python::register_session(m);
  flagdit::python::register_sampler(m);
  flagdit::python::register_run(m);
  flagdit::python::register_adapt(m);
  flagdit::python::register_job(m);
  flagdit::python::register_text(m);
  flagdit::python::register_bundle(m);
  flagdit::python::register_manifest(m);
  flagdit::python::register_device(m);
  flagdit::python::register_device_memory(m);
  flagdit::python::register_engines(m);
}
