"""The times that the steps of a run lie between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flagdit.cpp_ext import flow_times
from flagdit.engine.errors import RequestError

MAX_STEPS = 1000


def times_of(steps: int | Sequence[float], shift: float) -> list[float]:
    """S + 1 times from 0 (noise) to 1 (data): of a number of steps, shifted, or as they are given.

    Raises RequestError if there are too few or too many, if the shift is out of bounds, or if they do not run from 0
    to 1.
    """
    count = steps if isinstance(steps, int | np.integer) else max(len(steps) - 1, 0)
    if not 1 <= count <= MAX_STEPS:
        raise RequestError(f"steps is {count}; allowed are 1 to {MAX_STEPS}")
    if not 0.1 <= shift <= 100:
        raise RequestError(f"shift is {shift}; allowed are 0.1 to 100")
    if isinstance(steps, int | np.integer):
        return flow_times(int(steps), shift)
    times = [float(t) for t in steps]
    if (times[0], times[-1]) != (0.0, 1.0):
        raise RequestError(f"the times run from {times[0]:g} to {times[-1]:g}; allowed is 0 (noise) to 1 (data)")
    return times
