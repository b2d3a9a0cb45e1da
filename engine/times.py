"""The times that the steps of a run lie between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flagdit.cpp_ext import flow_times
from flagdit.engine.errors import RequestError

MAX_STEPS = 1000


Span = tuple[float, float]
RUN: Span = (0.0, 1.0)
"""Noise to data."""


def times_of(steps: int | Sequence[float], shift: float, span: Span = RUN) -> list[float]:
    """S + 1 times of `span`: of a number of steps, shifted, or as they are given.

    span: from 0 (noise) to 1 (data), or a part of it where a run begins with a coarse picture. A number of steps is
    spread evenly over the part that it takes before the shift, so a part of the shifted grid is cut out.

    Raises RequestError if there are too few or too many, if the shift is out of bounds, or if they do not have the ends
    of the span.
    """
    checked_count(steps)
    checked_shift(shift)
    if isinstance(steps, int | np.integer):
        return flow_times(int(steps), shift) if span == RUN else _cut(span, int(steps), shift)
    times = [float(t) for t in steps]
    if (times[0], times[-1]) != span:
        start = "0 (noise)" if span[0] == 0 else f"{span[0]:g} (where the coarse picture is noised to)"
        end = "1 (data)" if span[1] == 1 else f"{span[1]:g}"
        raise RequestError(f"the times run from {times[0]:g} to {times[-1]:g}; allowed is {start} to {end}")
    return times


def checked_count(steps: int | Sequence[float]) -> int:
    """How many steps there are, by number or by times. Raises RequestError if there are too few or too many."""
    if not isinstance(steps, int | np.integer | Sequence | np.ndarray) or isinstance(steps, str | bool):
        raise RequestError(f"steps is {steps!r}; allowed are 1 to {MAX_STEPS}, or the times that they lie between")
    count = int(steps) if isinstance(steps, int | np.integer) else max(len(steps) - 1, 0)
    if not 1 <= count <= MAX_STEPS:
        raise RequestError(f"steps is {count}; allowed are 1 to {MAX_STEPS}")
    return count


def checked_shift(shift: float) -> float:
    """The shift. Raises RequestError if it is out of bounds."""
    if not 0.1 <= shift <= 100:
        raise RequestError(f"shift is {shift}; allowed are 0.1 to 100")
    return shift


def _cut(span: Span, steps: int, shift: float) -> list[float]:
    """The shifted grid between two times: even before the shift."""
    first, last = (unshifted(t, shift) for t in span)
    places = [first + (last - first) * i / steps for i in range(1, steps)]
    return [span[0], *(t / (t + shift * (1 - t)) for t in places), span[1]]


def unshifted(t: float, shift: float) -> float:
    """The time that the shift takes to `t`."""
    return shift * t / (1 - t + shift * t)
