"""The numbers of a plan, fitted to converged pictures by Gauss-Newton steps on the end of the run.

What is made larger is the mean PSNR over pictures: each counts by the logarithm of its error, so that no bad picture
outweighs the others. Derivatives are differences of whole runs: nothing but the engine itself is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flagdit.engine.bench.measure import psnr
from flagdit.engine.calibrate.space import NUMBERS, Numbers, bounded
from flagdit.engine.layout import FloatArray

Paint = Callable[[Numbers], FloatArray]
"""Pictures (B, C, H, W) that a plan with these numbers makes."""

TRIES = ((1e-3, 1.0), (1e-3, 2.0), (1e-1, 1.0), (1e-1, 3.0), (1.0, 2.0))
"""Damping of the normal equations, and how far to go along their solution."""
ENOUGH = 0.02
"""A step that gains less, in dB, is the last."""


@dataclass(frozen=True)
class Fit:
    """Numbers, and the mean PSNR of their pictures."""

    numbers: Numbers
    psnr: float


def mean_psnr(pictures: FloatArray, exact: FloatArray) -> float:
    """In dB; of a plan that ran off to where there are no numbers, less than of any other."""
    return float(psnr(pictures, exact).mean()) if np.isfinite(pictures).all() else -100.0


def fit(
    start: Numbers, paint: Paint, exact: FloatArray, steps: int, progress: Callable[[], None] = lambda: None
) -> Fit:
    """The best numbers found from `start` in at most so many Gauss-Newton steps; `progress` is called after each."""
    numbers = bounded(start)
    pictures = paint(numbers)
    best = mean_psnr(pictures, exact)
    for _ in range(steps):
        tried = [bounded(numbers + far * way) for way, far in _ways(numbers, pictures, paint, exact)]
        made = [paint(candidate) for candidate in tried]
        scores = [mean_psnr(candidate, exact) for candidate in made]
        progress()
        top = int(np.argmax(scores))
        gain = scores[top] - best
        if gain > 0:
            numbers, pictures, best = tried[top], made[top], scores[top]
        if gain < ENOUGH:
            break
    return Fit(numbers, best)


def _ways(numbers: Numbers, pictures: FloatArray, paint: Paint, exact: FloatArray) -> list[tuple[Numbers, float]]:
    """Directions to go, and how far, from the derivatives of what is seen of the pictures."""
    seen, aim = np.clip(pictures, -1, 1), np.clip(exact, -1, 1)
    scale = 1 / np.sqrt(np.maximum(np.square(seen - aim).mean((1, 2, 3), keepdims=True), 1e-8))
    missing = ((seen - aim) * scale).ravel().astype(np.float64)
    rows = []
    for index, number in enumerate(NUMBERS[: len(numbers)]):
        moved = numbers.copy()
        moved[index] += number.move if numbers[index] + number.move <= number.most else -number.move
        change = (np.clip(paint(moved), -1, 1) - seen) * scale
        rows.append(change.ravel().astype(np.float64) / (moved[index] - numbers[index]))
    jacobian = np.nan_to_num(np.stack(rows))
    normal, right = jacobian @ jacobian.T, jacobian @ missing
    diagonal = np.diag(np.maximum(np.diag(normal), 1e-9))
    return [(-np.linalg.solve(normal + damping * diagonal, right), far) for damping, far in TRIES]
