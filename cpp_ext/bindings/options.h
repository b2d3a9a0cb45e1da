// Options as Python says them: objects of its own, read by their names. Here is where types are
// checked; what values may be, the core knows.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

#include "flagdit/fields.h"
#include "flagdit/presets.h"
#include "flagdit/regions.h"
#include "flagdit/resolve.h"
#include "flagdit/times.h"

namespace flagdit::python {

namespace nb = nanobind;

// In UTF-8; what Python made of bytes that are no UTF-8 becomes those bytes again.
std::string to_text(nb::handle text);
// What NumPy makes of numbers and lists is taken as Python's.
Value to_value(nb::handle object);
nb::object to_python(const Number& number);
nb::object to_python(const Value& value);

// An object with the attributes of RasConfig. Throws Error for a value of another kind.
Regions to_regions(nb::handle ras);
// The arguments that RasConfig is made from.
nb::dict to_fields(const Regions& regions);
Changes to_changes(nb::handle mapping);

// Throw Error for what is no number, or neither a whole number nor a list of times.
Number to_number(const char* name, nb::handle object);
Steps to_steps(nb::handle object);
nb::object to_python(const Steps& steps);

// A sequence of three numbers for each step.
std::vector<Weights> to_weights(nb::handle sequence);

// Throws Error for a name that is none.
Solver to_solver_of_user(nb::handle name);

// Objects with the attributes of Python's Options, Coarse and Preset, and what those are made from.
Options to_options(nb::handle said);
Coarse to_coarse(nb::handle coarse);
SkipLayerGuidance to_skips(nb::handle skips);
Preset to_preset(nb::handle preset);
nb::dict to_parts(const Coarse& coarse);
nb::dict to_parts(const Preset& preset);
nb::dict to_parts(const Presets& presets);

// An object with the attributes of a manifest's preset.
Calibrated to_calibrated(nb::handle spec);

}  // namespace flagdit::python
