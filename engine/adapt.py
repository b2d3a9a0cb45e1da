"""How much a step computes where the run decides: by the error that the cached patches are going to have.

Pure functions of the scores: with the metric "change" a score is the rms error that a patch's velocity will have at
the next step's time (Plan.scored_at) if it is not computed then, extrapolated from what it was off by when it last was
(cpp_ext/include/flagdit/advance.h).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flagdit.cpp_ext import Step
from flagdit.engine.layout import FloatArray

SHARES = 16
"""Counts are rounded up to so many parts of the picture, so that few shapes are bound and captured."""


def errors_left(score: FloatArray, velocity: FloatArray) -> npt.NDArray[np.float64]:
    """Mean error of all patches, if the k with the highest scores are computed: (patches + 1,) for k = 0, 1, ...

    score (patches, B), velocity (patches, B, P). In units of each sample's velocity, rms; of the worst sample.
    """
    worst_first = -np.sort(-score.astype(np.float64), axis=0)
    left = np.concatenate([np.cumsum(worst_first[::-1], axis=0)[::-1], np.zeros((1, score.shape[1]))])
    scale = np.sqrt(np.square(velocity, dtype=np.float64).mean((0, 2)))
    mean: npt.NDArray[np.float64] = (left / (len(score) * np.maximum(scale, 1e-12))).max(axis=1)
    return mean


def needed(errors: npt.NDArray[np.float64], budget: float, bucket: int = 1) -> int:
    """The least number of patches to compute that keeps the error within the budget, in whole parts of the picture,
    each of them a multiple of `bucket`."""
    patches = len(errors) - 1
    count = int(np.argmax(errors <= budget))  # the last is 0, so there is one
    part = -(-patches // (SHARES * bucket)) * bucket
    return min(-(-count // part) * part, patches)


def forced(age: npt.NDArray[np.int32], future: npt.NDArray[np.int32], max_age: int) -> bool:
    """Whether any patch must be computed now to keep the promise of refresh.h; age (patches, B)."""
    if max_age < 0:
        return False
    due = [int((max_age - age + 1 <= h).sum(axis=0).max()) for h in range(1, max_age + 2)]
    return any(count > capacity for count, capacity in zip(due, future.tolist(), strict=True))


def with_active(step: Step, active: int, tokens: int) -> Step:
    """The step with another number of tokens, and all cached ones from the low side."""
    return Step(step.index, step.t, step.t_next, active, active == tokens, 0)
