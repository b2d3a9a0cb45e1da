"""Region-adaptive sampling between engine calls: plan, advance, dilate, select, swap.

B samples, R = branches * B rows (row r belongs to sample r % B), N slots of which the first
A are active, P values per token. Every per-slot array is slot-major: (N, rows, ...).
Arrays are NumPy or DLPack, C-contiguous, all on one device, and are never copied.
"""

from flagdit.cpp_ext import _ext
from flagdit.cpp_ext._ext import (
    MAX_STEPS,
    MAX_TOKENS,
    Budget,
    CacheForecast,
    Evaluation,
    Forecast,
    GraphCache,
    Keeps,
    Plan,
    Ranking,
    SlotBuffers,
    Step,
    advance,
    dampings,
    dilate,
    flow_times,
    has_amx,
    least_max_age,
    make_plan,
    normal_noise,
    philox,
    plan_evaluations,
    plan_steps,
    raise_as,
    ratios_of,
    refresh_capacity,
    resets_of,
    select,
    tick,
    times_of,
    unconditional_steps,
    with_cuda,
)
from flagdit.cpp_ext.arrays import Array

OPERATORS = str(_ext.__file__)
"""The library that ONNX Runtime finds the CPU operators of the domain "flagdit" in."""

BLOCKS = "flagdit.blocked_attention"
"""Entry of a session's configuration that, set before the library is registered, makes ONNX's own Attention take some
queries at a time: its scores then take the same memory for any number of them, and its results are the same."""

__all__ = [
    "BLOCKS",
    "MAX_STEPS",
    "MAX_TOKENS",
    "OPERATORS",
    "Array",
    "Budget",
    "CacheForecast",
    "Evaluation",
    "Forecast",
    "GraphCache",
    "Keeps",
    "Plan",
    "Ranking",
    "SlotBuffers",
    "Step",
    "advance",
    "dampings",
    "dilate",
    "flow_times",
    "has_amx",
    "least_max_age",
    "make_plan",
    "normal_noise",
    "philox",
    "plan_evaluations",
    "plan_steps",
    "raise_as",
    "ratios_of",
    "refresh_capacity",
    "resets_of",
    "select",
    "tick",
    "times_of",
    "unconditional_steps",
    "with_cuda",
]
