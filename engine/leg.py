"""A part of a run at one size: a plain run has one, a run that begins coarse has two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy.typing as npt

from flagdit.engine.coarse import coarse_layout, full_span
from flagdit.engine.cost import Cost, price
from flagdit.engine.layout import FloatArray, TokenLayout, ntk_factor
from flagdit.engine.manifest import ModelSpec
from flagdit.engine.placing import check_extrapolation, placed
from flagdit.engine.plan import Plan, make_plan
from flagdit.engine.ports import begins
from flagdit.engine.ras import DENSE, RasConfig
from flagdit.engine.regions import RegionState
from flagdit.engine.request import Request
from flagdit.engine.sampler import StepTime, sample
from flagdit.engine.session import Array, OnnxSession


class Leg:
    """A plan over one size. Its state is there from the first of its steps on."""

    def __init__(self, spec: ModelSpec, request: Request, layout: TokenLayout, plan: Plan, ras: RasConfig) -> None:
        self.layout, self.plan, self.ras = layout, plan, ras
        check_extrapolation(spec.graphs.place, request.ntk, request.proportional)
        self.ntk = ntk_factor(spec, layout, request.ntk)
        self._proportional, self._shared = request.proportional, dict[str, Array]()
        self.state: RegionState | None = None
        self._spec, self._branches, self._samples = spec, request.branches, len(request.prompts)

    @property
    def planned(self) -> list[int]:
        """Evaluations of each step."""
        counts = Counter(evaluation.step for evaluation in self.plan.evaluations)
        return [counts[step.index] for step in self.plan.steps]

    def begin(self, start: FloatArray, place: OnnxSession, cached: npt.DTypeLike) -> RegionState:
        """Allocate its state at latents (B, C, H, W). cached: what keys and values are kept in."""
        made = placed(place, self.layout, self.ntk, self._proportional)
        ports = {port.name: port for port in self._spec.graphs.denoise.inputs}
        self._shared = {name: x for name, x in made.items() if not begins(ports[name], "A")}
        args = (list(ports.values()), self.layout, start, self._branches, self.plan.keeps, made, cached)
        self.state = RegionState(*args)
        return self.state

    def run(
        self,
        denoise: OnnxSession,
        conditions: Mapping[str, Array],
        modulations: Mapping[str, Array],  # an entry for each of the leg's evaluations
        guidance: FloatArray,
    ) -> Iterator[StepTime]:
        """Go through the plan, a yield a step; it has begun."""
        if self.state is None:
            raise RuntimeError("the leg has not begun")
        yield from sample(denoise, self.state, self.plan, conditions, modulations, guidance, self.ras, self._shared)

    def end(self) -> FloatArray:
        """The picture (B, C, H, W) that its last step left, or the estimate of it if that ended before time 1."""
        if self.state is None:
            raise RuntimeError("the leg has not begun")
        return self.state.images(ahead=1 - self.plan.steps[-1].t_next)

    def price(self, text: int = 32, value_bytes: int = 4, taken: list[tuple[int, int]] | None = None) -> Cost:
        """See cost.price."""
        return price(self._spec, self.plan, self._samples, self._branches, text, value_bytes, taken)


def legs_of(spec: ModelSpec, request: Request) -> list[Leg]:
    """The legs of a run, the last one at the full size. Raises RequestError if an option is out of bounds."""
    layout, coarse, ras = TokenLayout.of(spec, request.size), request.coarse, request.ras
    how = (request.shift, request.solver, request.weights, full_span(coarse))
    full = Leg(spec, request, layout, make_plan(ras, request.steps, layout.tokens, layout.pinned, *how), ras)
    if coarse is None:
        return [full]
    smaller = coarse_layout(layout, coarse.factor)
    plan = coarse.plan(smaller.tokens, smaller.pinned, request.shift)
    return [Leg(spec, request, smaller, plan, DENSE), full]
