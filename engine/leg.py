"""A part of a run at one size: a plain run has one, a run that begins coarse has two."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flagdit.engine.coarse import coarse_layout, full_span
from flagdit.engine.cost import Cost, price
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import Ntk, TokenLayout, ntk_factor
from flagdit.engine.manifest import Graph, ModelSpec
from flagdit.engine.plan import Plan, make_plan
from flagdit.engine.request import Request


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
        text: int = 32,
        value_bytes: int = 4,
        taken: list[tuple[int, int]] | None = None,
    ) -> Cost:
        """See cost.price."""
        return price(spec, self.plan, samples, branches, text, value_bytes, taken)


def legs_of(spec: ModelSpec, request: Request) -> list[Leg]:
    """The legs of a run, the last one at the full size. Raises RequestError if an option is out of bounds."""
    check_extrapolation(spec.graphs.place, request.ntk, request.proportional)
    layout, coarse = TokenLayout.of(spec, request.size), request.coarse
    how = (request.shift, request.solver, request.weights, full_span(coarse))
    plan = make_plan(request.ras, request.steps, layout.tokens, layout.pinned, *how)
    full = Leg(layout, plan, ntk_factor(spec, layout, request.ntk))
    if coarse is None:
        return [full]
    smaller = coarse_layout(layout, coarse.factor)
    first = coarse.plan(smaller.tokens, smaller.pinned, request.shift)
    return [Leg(smaller, first, ntk_factor(spec, smaller, request.ntk)), full]


def check_extrapolation(place: Graph, ntk: Ntk, proportional: bool) -> None:
    """Raise RequestError for an option of sizes beyond training that a model's `place` has no input for."""
    taken = {tensor.name for tensor in place.inputs}
    for name, asked in (("ntk", ntk is not None), ("proportional", proportional)):
        if asked and name not in taken:
            raise RequestError(f"{name} is nothing that this model knows; leave it out")
