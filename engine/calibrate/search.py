"""Which plan is best for a budget: shapes compete on the calibration prompts, and the numbers of the winner are fitted.

Dense plans take part like any other, so region-adaptive steps are used only where they win.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from flagdit.engine.bench.settings import STEPS
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.calibrate.fit import fit, mean_psnr
from flagdit.engine.calibrate.painter import Painter
from flagdit.engine.calibrate.space import Numbers, Shape, preset_of, start
from flagdit.engine.cost import head_multiple_of, price
from flagdit.engine.layout import TokenLayout
from flagdit.engine.presets import Preset

STARTS = ((2.5, 0.5), (4.0, 0.5))
"""Shifts of the times that shapes begin to compete with, and weights of their slopes: those of ab2."""
EULER = ((4.0, 0.0), (6.0, 0.0))
"""More of them for small budgets, where the best plain steps may be Euler's: a slope says little of a long step."""
LONGER, DENSE_SHARES = (1.2, 1.45, 1.75), (0.35, 0.5)
"""Steps of a region-adaptive plan, over those of a dense one of its cost; dense ones at its start, of its cost."""
LEAST_SHARE, MOST_SHARE = 0.125, 0.8
"""Of the patches, on average, that a region-adaptive step computes."""
SLACK = 0.005
"""A budget of .13 is that of four dense steps, which cost .133."""
FIRST_ROUND, SECOND_ROUND = 4, 4
"""Prompts that all candidates are tried on, and candidates that are then compared on all prompts."""
SMALL = 0.25
"""Budgets for which dense steps are fitted whether they won or not."""


@dataclass(frozen=True)
class Candidate:
    """A shape, numbers for it, and the mean PSNR of its pictures so far."""

    shape: Shape
    numbers: Numbers
    psnr: float = 0.0

    @property
    def preset(self) -> Preset:
        """The plan."""
        return preset_of(self.shape, self.numbers)


def cost(spec: ModelSpec, how: Preset, size: tuple[int, int] | None = None) -> float:
    """FLOPs of a plan over those of 30 dense steps."""
    layout = TokenLayout.of(spec, size)
    priced = price(spec, how.plan(layout.tokens, layout.pinned, head_multiple_of(spec)))
    return sum(priced.flops) / (STEPS * priced.dense_flops)


def shapes(budget: float, cost_of: Callable[[Shape], float], *, rests: bool = False) -> list[Shape]:
    """Shapes whose cost comes near the budget from below; the dense one first.

    rests: each with its text at rest besides, which leaves more of the budget to patches.
    """
    steps = max(int(STEPS * (budget + SLACK)), 1)
    found = [Shape(steps, steps)]
    for longer, share, last, at_rest in product(LONGER, DENSE_SHARES, (True, False), (False, True)[: 1 + rests]):
        bare = Shape(round(steps * longer), max(round(steps * share), 2), last_dense=last, rests=at_rest)
        shape = _filled(bare, budget=budget, cost_of=cost_of)
        if shape is not None and shape not in found:
            found.append(shape)
    return found


def _filled(bare: Shape, *, budget: float, cost_of: Callable[[Shape], float]) -> Shape | None:
    """The shape with the falling ratio that takes up the budget; None if there is no room for one, or too much."""
    if bare.steps - bare.warmup - bare.last_dense < 1:
        return None
    best = None
    for sixteenth in range(round(16 * LEAST_SHARE), round(16 * MOST_SHARE) + 1):
        mean = sixteenth / 16
        first = min(4 / 3 * mean, 1.0)
        shape = replace(bare, ratio=first, ratio_end=max(2 * mean - first, 1 / 16))
        if cost_of(shape) > budget + SLACK:
            break
        best = shape
    return best


def search(
    budget: float,
    cost_of: Callable[[Shape], float],
    painter: Painter,
    *,
    effort: int,
    regions: bool = True,
    rests: bool = False,
) -> Iterator[tuple[str, Candidate | None]]:
    """The best plan found for a budget: says what it is doing, and at the end (None before it) the winner.

    effort: rounds of fitting at a cost of .33; cheaper plans, which gain more by it, get as many more.
    regions: False lets dense plans alone compete. rests: plans whose text rests compete, too.
    """
    tried, few = [], painter.first(FIRST_ROUND)
    for shape in shapes(budget, cost_of, rests=rests)[: None if regions else 1]:
        yield f"trying {shape}", None
        for shift, slope in STARTS + EULER * (budget <= SMALL):
            tried.append(_compared(Candidate(shape, start(shape, shift, slope)), few))
    best = []
    for candidate in sorted(tried, key=lambda c: -c.psnr)[:SECOND_ROUND]:
        yield f"{candidate.shape} on all prompts", None
        best.append(_compared(candidate, painter))
    rounds, fitted = round(effort * max(1.0, 0.33 / budget)), []
    for candidate in _finalists(tried, best, budget):
        yield f"fitting {candidate.shape}", None
        fitted.append(_fitted(candidate, painter, rounds))
    yield "done", max(fitted, key=lambda c: c.psnr)


def _compared(candidate: Candidate, painter: Painter) -> Candidate:
    """The candidate with the PSNR that it has over the painter's prompts."""
    return replace(candidate, psnr=mean_psnr(painter(candidate.preset), painter.exact))


def _finalists(tried: list[Candidate], best: list[Candidate], budget: float) -> list[Candidate]:
    """The winner; and for small budgets, where fitting decides more than the shape does, dense steps as well."""
    top = max(best, key=lambda c: c.psnr)
    if top.shape.dense or budget > SMALL:
        return [top]
    return [top, max((c for c in tried if c.shape.dense), key=lambda c: c.psnr)]


def _fitted(candidate: Candidate, painter: Painter, rounds: int) -> Candidate:
    shape = candidate.shape
    found = fit(candidate.numbers, lambda numbers: painter(preset_of(shape, numbers)), painter.exact, rounds=rounds)
    return Candidate(shape, found.numbers, found.psnr)
