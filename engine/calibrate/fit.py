"""The numbers of a plan, fitted to converged pictures by Gauss-Newton steps on the end of the run.

What is made larger is the mean PSNR over pictures: each counts by the logarithm of its error, so that no bad picture
outweighs the others. Derivatives are differences of whole runs: nothing but `denoise` itself is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flagdit.engine.bench.measure import psnr
from flagdit.engine.calibrate.space import NUMBERS, Numbers, bounded
from flagdit.engine.layout import FloatArray

Paint = Callable[[Numbers], FloatArray]
"""Pictures (B, C, H, W) that a plan with these numbers makes."""

TRIES = ((1e-3, 1.0), (1e-3, 3.0), (1e-1, 1.0), (1e-1, 4.0))
"""Damping of the normal equations, and how far to go along their solution."""
REUSED = 3
"""Steps that are made with derivatives of an earlier one, brought up to date by what the steps did."""
ENOUGH = 0.02
"""A step that gains less, in dB, is the last of its derivatives."""


NOWHERE = -100.0
"""What a plan has, in dB, that ran off to where there are no numbers."""


@dataclass(frozen=True)
class Fit:
    """Numbers, and the mean PSNR of their pictures."""

    numbers: Numbers
    psnr: float


def mean_psnr(pictures: FloatArray, exact: FloatArray) -> float:
    """In dB; of a plan that ran off to where there are no numbers, less than of any other."""
    return float(psnr(pictures, exact).mean()) if np.isfinite(pictures).all() else NOWHERE


def fit(
    start: Numbers, paint: Paint, exact: FloatArray, *, rounds: int, progress: Callable[[], None] = lambda: None
) -> Fit:
    """The best numbers found from `start`, with derivatives taken in at most so many rounds.

    `progress` is called after each round.
    """
    at = _Place(bounded(start), paint, exact)
    for _ in range(rounds):
        before, jacobian = at.psnr, at.derivatives()
        for _ in range(1 + REUSED):
            there = at.best_step(jacobian)
            gain = there.psnr - at.psnr
            if gain > 0:
                jacobian = _updated(jacobian, at, there)
                at = there
            if gain < ENOUGH:
                break
        progress()
        if at.psnr - before < ENOUGH:
            break
    return Fit(at.numbers, at.psnr)


class _Place:
    """Numbers, what is seen of their pictures, and where to go from there."""

    def __init__(self, numbers: Numbers, paint: Paint, exact: FloatArray) -> None:
        self.numbers, self._paint, self._exact = numbers, paint, exact
        pictures = paint(numbers)
        self.psnr = mean_psnr(pictures, exact)
        self.seen = np.nan_to_num(np.clip(pictures, -1, 1).astype(np.float64))

    def derivatives(self) -> npt.NDArray[np.float64]:
        """(numbers, values of all pictures), by moving one number after another."""
        rows = []
        for index, number in enumerate(NUMBERS[: len(self.numbers)]):
            moved = self.numbers.copy()
            moved[index] += number.move if moved[index] + number.move <= number.most else -number.move
            seen = np.nan_to_num(np.clip(self._paint(moved), -1, 1))
            rows.append((seen - self.seen).ravel() / (moved[index] - self.numbers[index]))
        return np.stack(rows)

    def best_step(self, jacobian: npt.NDArray[np.float64]) -> _Place:
        """Of several steps along the Gauss-Newton directions, where the best of them leads."""
        aim = np.clip(self._exact, -1, 1)
        error = np.maximum(np.square(self.seen - aim).mean((1, 2, 3), keepdims=True), 1e-8)
        scale = np.broadcast_to(1 / np.sqrt(error), self.seen.shape).ravel()
        weighed, missing = jacobian * scale, (self.seen - aim).ravel() * scale
        normal, right = weighed @ weighed.T, weighed @ missing
        diagonal = np.diag(np.maximum(np.diag(normal), 1e-9))
        ways = [(-np.linalg.solve(normal + damping * diagonal, right), far) for damping, far in TRIES]
        places = [_Place(bounded(self.numbers + far * way), self._paint, self._exact) for way, far in ways]
        return max(places, key=lambda place: place.psnr)


def _updated(jacobian: npt.NDArray[np.float64], at: _Place, to: _Place) -> npt.NDArray[np.float64]:
    """Derivatives that agree with what a step did (Broyden 1965)."""
    step = to.numbers - at.numbers
    off = (to.seen - at.seen).ravel() - step @ jacobian
    out: npt.NDArray[np.float64] = jacobian + np.outer(step, off) / max(float(step @ step), 1e-12)
    return out
