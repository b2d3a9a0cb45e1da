"""A part of a run at one size: a plain run has one, a run that begins coarse has two."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flagdit.engine.bundle import ModelSpec
from flagdit.engine.cost import Cost, price
from flagdit.engine.layout import TokenLayout
from flagdit.engine.plan import Plan


@dataclass(frozen=True)
class Leg:
    """A plan over one size, for B samples. ntk: factor on theta of RoPE."""

    layout: TokenLayout
    plan: Plan
    ntk: float

    @property
    def planned(self) -> list[int]:
        """Evaluations of each step."""
        counts = Counter(evaluation.step for evaluation in self.plan.evaluations)
        return [counts[step.index] for step in self.plan.steps]

    def price(
        self,
        spec: ModelSpec,
        samples: int,
        branches: int,
        *,
        text: int = 32,
        value_bytes: int = 4,
        taken: list[tuple[int, int]] | None = None,
    ) -> Cost:
        """See cost.price."""
        return price(spec, self.plan, samples, branches=branches, text=text, value_bytes=value_bytes, taken=taken)
