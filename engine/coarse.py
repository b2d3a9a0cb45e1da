"""A run that begins with a smaller picture, and what it goes on from at the full size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flagdit import cpp_ext
from flagdit.cpp_ext import Plan
from flagdit.engine.layout import TokenLayout
from flagdit.engine.times import RUN, Span


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
        """Raises RequestError if the factor or a time is out of bounds; of steps and shift the plan knows."""
        cpp_ext.check_coarse(self)

    @property
    def count(self) -> int:
        """The number of coarse steps."""
        return int(self.steps) if not isinstance(self.steps, Sequence) else len(self.steps) - 1

    def plan(
        self,
        tokens: int,
        pinned: int = 0,
        shift: float = 1.0,
        phases: Sequence[float] = (),
        skips: tuple[int, int] = (0, 0),
    ) -> Plan:
        """Its steps over so many tokens of the smaller size; `shift` is the run's. phases, skips: as in make_plan."""
        return cpp_ext.coarse_plan(self, tokens, pinned, shift, phases, skips)


def full_span(coarse: Coarse | None) -> Span:
    """The times of the steps at the full size."""
    return RUN if coarse is None else (coarse.until, 1.0)


def coarse_layout(layout: TokenLayout, factor: int) -> TokenLayout:
    """The layout of a picture that is smaller by the factor. Raises RequestError if that does not tile."""
    return TokenLayout.like(cpp_ext.coarse_layout(layout, factor))
