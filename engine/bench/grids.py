"""The best grid of times for a number of dense steps: what region-adaptive sampling has to be compared with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.measure import Batch
from flagdit.engine.bench.samples import Samples
from flagdit.engine.bench.settings import Setting, dense
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.ras import Solver

SHIFTS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5)
"""Time shifts that are tried, even steps among them."""


def best_shifts(
    pipeline: Pipeline,
    prompts: Sequence[str],
    exactly: ExactPictures,
    runs: Sequence[tuple[Solver, int]],
    *,
    kept: Samples | None = None,
) -> Iterator[tuple[tuple[Solver, int], float]]:
    """For each of these dense runs, the shift whose pictures come nearest to the exact ones on average.

    The first prompt has seed 0; the exact pictures have the same size and guidance scale. kept: see `measure`.
    """
    batch, place = Batch(pipeline, prompts, 0, exactly, kept=kept), len(SHIFTS) // 2
    for solver, count in runs:

        def near(place: int, solver: Solver = solver, count: int = count) -> float:
            sample = batch.sample(Setting(f"dense {count}", "dense", dense(count, solver, SHIFTS[place])))
            return sum(sample.psnr) / len(sample.psnr)

        place = climb(near, place, len(SHIFTS))
        yield (solver, count), SHIFTS[place]


def climb(height: Callable[[int], float], start: int, places: int) -> int:
    """The top of a hill, from one of its places 0, 1, ...: asks each place once at most."""
    known: dict[int, float] = {}

    def at(place: int) -> float:
        if place not in known:
            known[place] = height(place) if 0 <= place < places else -math.inf
        return known[place]

    here = start
    while (best := max((here, here - 1, here + 1), key=at)) != here:
        here = best
    return here
