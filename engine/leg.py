"""A part of a run at one size: a plain run has one, a run that begins coarse has two."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flagdit.cpp_ext import Job
from flagdit.engine.layout import TokenLayout
from flagdit.engine.plan import Plan


@dataclass(frozen=True)
class Leg:
    """A plan over one size, for B samples. ntk: factor on theta of RoPE."""

    layout: TokenLayout
    plan: Plan
    ntk: float

    @classmethod
    def all_of(cls, job: Job) -> tuple[Leg, ...]:
        """Those of a job, the full size last."""
        return tuple(cls(TokenLayout.like(layout), plan, ntk) for layout, plan, ntk in job.legs)

    @property
    def planned(self) -> list[int]:
        """Evaluations of each step."""
        counts = Counter(evaluation.step for evaluation in self.plan.evaluations)
        return [counts[step.index] for step in self.plan.steps]
