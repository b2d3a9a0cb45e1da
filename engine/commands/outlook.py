"""What `flagdit plan` knows of a run."""

from __future__ import annotations

from dataclasses import dataclass

from flagdit.cpp_ext import Step, least_max_age
from flagdit.engine.cost import Cost
from flagdit.engine.plan import Plan
from flagdit.engine.ras import RasConfig


@dataclass(frozen=True)
class Outlook:
    """A plan, and what is known of its price."""

    plan: Plan
    ras: RasConfig
    solver: str
    cost: Cost | None  # None without a bundle: what a token costs is not known
    weighted: bool = False  # whether steps have weights of their own, in place of the solver's

    @property
    def flop_ratio(self) -> float:
        """Work over that of dense sampling; without a bundle, computed tokens over all, of both branches."""
        if self.cost is not None:
            return self.cost.flop_ratio
        steps = zip(self.plan.steps, self.plan.unconditional, strict=True)
        computed = sum(step.active * (1 if both else 0.5) for step, both in steps)
        return computed / (self.plan.tokens * len(self.plan.steps))

    @property
    def speedup(self) -> float:
        """The bound that the time of a run is measured against."""
        return 1 / self.flop_ratio

    @property
    def flops(self) -> list[float] | None:
        """FLOPs of every step, over all of its evaluations."""
        if self.cost is None:
            return None
        out = [0.0] * len(self.plan.steps)
        for evaluation, flops in zip(self.plan.evaluations, self.cost.flops, strict=True):
            out[evaluation.step] += flops
        return out

    @property
    def least_age(self) -> int:
        """The smallest bound on a region's age that the plan has the capacity for."""
        return least_max_age(self.plan.steps, self.plan.tokens, self.plan.pinned)

    def why(self, step: Step) -> str:
        """What makes a step dense, or "" if it is none."""
        ratios = self.ras.ratios(len(self.plan.steps))
        if not step.dense:
            return ""
        if ratios == 1:
            return "planned"
        if step.index < self.ras.warmup:
            return "warm-up"
        if step.index in self.ras.resets_of(len(self.plan.steps)):
            return "reset"
        if self.ras.end is not None and step.index > self.ras.end:
            return "after the end"
        return "planned" if isinstance(ratios, list) and ratios[step.index] == 1 else "nothing to cache"
