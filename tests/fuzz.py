"""What the fuzzers share: numbers that programmers trip over, and arrays with a guarded border."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
C = TypeVar("C")

CASES = int(os.environ.get("FLAGDIT_FUZZ", "320"))
"""Of one operator or binding; `make sanitize` asks for more."""
PARTS = 8
BORDER = 4096
"""Bytes on either side of an array."""

INTEGERS = (-(2**63), -(2**62), -1, 0, 1, 2, 3, 2**31 - 1, 2**31, 2**32, 2**61, 2**62, 2**62 + 2, 2**63 - 1)
FLOATS = (float("nan"), float("inf"), -float("inf"), -1.0, -0.0, 0.0, 1e-5, 1.0, 2.0)


def rng_of(name: str, part: int) -> random.Random:
    return random.Random(f"{name} {part}")


def check_cases(made: Callable[[], C], check: Callable[[C], bool], said: Callable[[C], object], least: int) -> None:
    """Check the cases of a part, of which some are taken, one in `least` at least, and some refused.

    check says whether a case was taken. said: what a case is, for the error of one that fails.
    """
    taken = 0
    for number in range(CASES // PARTS):
        case = made()
        try:
            taken += check(case)
        except AssertionError as error:
            raise AssertionError(f"case {number}: {said(case)}: {error}") from error
    assert CASES // PARTS // least < taken < CASES // PARTS, f"{taken} taken"


def wrapping(rng: random.Random, width: int) -> int:
    """A number whose product with the width is small in 64 bits, and huge in truth."""
    number = rng.randrange(1, max(width, 2)) * 2**64 // max(width, 1) + rng.randrange(3)
    return number if number < 2**63 else number - 2**64


def reshaped(rng: random.Random, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape near this one, or far from it, of not many values."""
    new = _reshaped(rng, shape)
    huge = math.prod(new) > 10**5 or math.prod(max(size, 1) for size in new) > 2**56  # NumPy allows no more
    return shape if huge else new


def _reshaped(rng: random.Random, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = list(shape)
    kind = rng.randrange(7)
    if kind == 0:
        return ()
    if kind == 1 or not axes:
        return (*shape[: rng.randrange(len(shape) + 1)], rng.choice((0, 1, 2)), *shape[len(shape) // 2 :])
    at = rng.randrange(len(axes))
    if kind == 2:
        del axes[at]
    elif kind == 3:
        axes[at] = rng.choice((0, 1, axes[at] + 1, max(axes[at] - 1, 0), 2 * axes[at]))
    elif kind == 4:
        rng.shuffle(axes)
    elif kind == 5:  # no values, and a size that is nothing to multiply
        axes[at] = 0
        axes[rng.randrange(len(axes))] = rng.choice((0, 2**31, 2**40))
        return tuple(axes) if 0 in axes else (0, *axes[1:])
    else:
        axes.insert(at, 1)
    return tuple(axes)


class Guarded:
    """An array inside a larger piece of memory, whose border is NaN and must stay as it is."""

    def __init__(self, array: Array) -> None:
        kind = array.dtype
        one = np.frombuffer(np.array([np.nan], np.float32).tobytes() if kind.itemsize >= 4 else b"\xc0\x7f", np.uint8)
        self.memory = np.resize(one, 2 * BORDER + array.nbytes)
        self.array = self.memory[BORDER : BORDER + array.nbytes].view(kind).reshape(array.shape)
        self.array[...] = array
        self.border = self._border().copy()

    def _border(self) -> npt.NDArray[np.uint8]:
        return np.concatenate([self.memory[:BORDER], self.memory[len(self.memory) - BORDER :]])

    def check(self) -> None:
        """Nothing was written outside the array."""
        np.testing.assert_array_equal(self._border(), self.border)
