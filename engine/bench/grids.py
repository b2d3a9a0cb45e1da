"""The best grid of times for a number of dense steps: what region-adaptive sampling has to be compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.measure import paint, psnr
from flagdit.engine.bench.settings import STEPS, dense
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.ras import Solver

SHIFTS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5)
"""Time shifts that are tried, even steps among them."""


def best_shifts(
    pipeline: Pipeline,
    prompts: Sequence[str],
    exactly: ExactPictures,
    counts: Sequence[int],
    solvers: Sequence[Solver] = ("euler", "ab2"),
    first: int = 0,
) -> Iterator[tuple[tuple[Solver, int], float]]:
    """For each solver and number of steps, the shift whose pictures come nearest to the exact ones on average.

    first: the seed of the first prompt; the exact pictures have the same size and guidance scale.
    """
    exact = exactly(prompts, first)
    for solver in solvers:
        for count in (STEPS, *counts):
            near = {}
            for shift in SHIFTS:
                how = dense(count, solver, shift)
                made = paint(pipeline, how, prompts, first, exactly.size, exactly.guidance)
                near[shift] = float(psnr(made.latents, exact).mean())
            yield (solver, count), max(near, key=lambda shift: near[shift])
