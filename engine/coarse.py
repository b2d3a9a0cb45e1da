"""A run that begins with a smaller picture, and what it goes on from at the full size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flagdit.engine.errors import RequestError
from flagdit.engine.layout import TokenLayout, nearest
from flagdit.engine.plan import Plan, make_plan
from flagdit.engine.ras import DENSE
from flagdit.engine.times import RUN, Span

MAX_FACTOR = 16


@dataclass(frozen=True)
class Coarse:
    """Dense steps of ab2 at a smaller size, whose picture the run at the full size goes on from.

    factor: of width and height, 2 to 16; 1 turns off what a preset has.
    steps: how many, or the times they lie between, from 0 (noise) to `end`.
    shift: time shift of a number of steps; None is the run's.
    until: the time, above 0 and below 1, that the enlarged picture is brought to with noise: the run at the full size
        starts there.
    end: the time that the coarse steps end at, 1 (data) or before: the picture is then estimated by x + (1 - t) v.
    """

    factor: int = 2
    steps: int | tuple[float, ...] = 10
    shift: float | None = 2.0
    until: float = 0.4
    end: float = 1.0

    def __post_init__(self) -> None:
        """Raises RequestError if the factor or `until` is out of bounds; of steps and shift the plan knows."""
        whole = isinstance(self.factor, int | np.integer) and not isinstance(self.factor, bool)
        if not whole or not 1 <= self.factor <= MAX_FACTOR:
            raise RequestError(f"the factor of coarse is {self.factor}; allowed are 2 to {MAX_FACTOR}, and 1 for none")
        if not 0 < self.until < 1:
            raise RequestError(f"coarse is until {self.until}; allowed are times above 0 (noise) and below 1 (data)")
        if not 0 < self.end <= 1:
            raise RequestError(f"the end of coarse is {self.end}; allowed are times above 0 (noise) to 1 (data)")

    @property
    def count(self) -> int:
        """The number of coarse steps."""
        return int(self.steps) if isinstance(self.steps, int | np.integer) else len(self.steps) - 1

    def plan(self, tokens: int, pinned: int = 0, shift: float = 1.0) -> Plan:
        """Its steps over so many tokens of the smaller size; `shift` is the run's."""
        own = shift if self.shift is None else self.shift
        return make_plan(DENSE, self.steps, tokens, pinned, own, "ab2", span=(0.0, self.end))


def full_span(coarse: Coarse | None) -> Span:
    """The times of the steps at the full size."""
    return RUN if coarse is None else (coarse.until, 1.0)


def coarse_layout(layout: TokenLayout, factor: int) -> TokenLayout:
    """The layout of a picture that is smaller by the factor. Raises RequestError if that does not tile."""
    smaller = layout.smaller(factor)
    if smaller is None:
        fits = [f for f in range(2, MAX_FACTOR + 1) if layout.smaller(f) is not None]
        allowed = f"allowed for this size: {', '.join(map(str, fits))}" if fits else "no factor divides this size"
        wide, high = layout.patch_width, layout.patch_height
        near = f"{nearest(layout.width, factor * wide)}x{nearest(layout.height, factor * high)}"
        raise RequestError(
            f"size {layout.width}x{layout.height} over {factor} is not made of {wide}x{high} patches; "
            f"{allowed}; the nearest size is {near}"
        )
    return smaller
