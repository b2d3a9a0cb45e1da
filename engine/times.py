"""The times that the steps of a run lie between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flagdit.cpp_ext import MAX_STEPS, times_of
from flagdit.engine.errors import RequestError

__all__ = ["MAX_STEPS", "RUN", "Span", "times_of"]

Span = tuple[float, float]
"""Times that a run begins and ends at: from 0 (noise) to 1 (data), or a part of that beside a coarse picture."""
RUN: Span = (0.0, 1.0)
"""Noise to data."""


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


def unshifted(t: float, shift: float) -> float:
    """The time that the shift takes to `t`."""
    return shift * t / (1 - t + shift * t)
