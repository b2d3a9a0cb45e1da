"""What is known of a run before it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flagdit.cpp_ext import Step, check_rest, least_max_age, skipped_layers
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.coarse import coarse_layout
from flagdit.engine.cost import Cost, head_multiple_of, price
from flagdit.engine.cpu import Precision
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import Ntk, TokenLayout
from flagdit.engine.memory import Memory, memory
from flagdit.engine.model import model_of
from flagdit.engine.plan import Plan
from flagdit.engine.presets import Preset
from flagdit.engine.ras import RasConfig
from flagdit.engine.skip_layers import SkipLayerGuidance


@dataclass(frozen=True)
class Entry:
    """A step of a run: its number there, and why it is dense. flops: of all its evaluations, if a bundle says."""

    index: int
    step: Step
    tokens: int  # at its size
    why: str
    branches: int  # of guidance that it runs
    flops: float | None


@dataclass(frozen=True)
class Outlook:
    """A plan, and what is known of its price. coarse: of the steps at a smaller size before it."""

    plan: Plan
    ras: RasConfig
    solver: str
    cost: Cost | None  # None without a bundle: what a token costs is not known
    weighted: bool = False  # whether steps have weights of their own, in place of the solver's
    coarse: Plan | None = None
    memory: Mapping[str, Memory] = field(default_factory=dict)  # by precision, of one picture with guidance
    encoder: int = 0  # bytes of a text encoder that is let go before the steps
    skipped: Sequence[int] = ()  # layers that a branch of guidance skips

    @property
    def flop_ratio(self) -> float:
        """Work over that of dense sampling; without a bundle, computed tokens over all, of both branches."""
        if self.cost is not None:
            return self.cost.flop_ratio
        entries = self.entries
        computed = sum(entry.step.active * entry.branches / 2 for entry in entries)
        return computed / (self.plan.tokens * len(entries))

    @property
    def speedup(self) -> float:
        """The bound that the time of a run is measured against."""
        return 1 / self.flop_ratio

    @property
    def evaluations(self) -> int:
        """Of all steps."""
        return sum(len(plan.evaluations) for plan in self._plans)

    @property
    def entries(self) -> list[Entry]:
        """All steps, coarse ones first."""
        out: list[Entry] = []
        flops = iter(self.cost.flops if self.cost is not None else [])
        for plan in self._plans:
            for step in plan.steps:
                calls = sum(evaluation.step == step.index for evaluation in plan.evaluations)
                price = None if self.cost is None else sum(next(flops) for _ in range(calls))
                why = self.why(step) if plan is self.plan else "coarse"
                out.append(Entry(len(out), step, plan.tokens, why, plan.branches(step.index), price))
        return out

    @property
    def least_age(self) -> int:
        """The smallest bound on a region's age that the plan has the capacity for."""
        return least_max_age(self.plan.steps, self.plan.tokens, self.plan.pinned)

    def why(self, step: Step) -> str:
        """What makes a step of the plan dense, or "" if it is none."""
        ratios = self.ras.ratios(len(self.plan.steps))
        if not step.dense:
            return ""
        if ratios == 1:
            return "planned"
        if step.index < self.ras.warmup:
            return "warm-up"
        if self.plan.places_anew(step.index):
            return "tokens placed anew"
        if self.plan.turns(step.index):
            return "skipping layers " + ("begins" if self.plan.skips[step.index] else "has ended")
        if step.index in self.ras.resets_of(len(self.plan.steps)):
            return "reset"
        if self.ras.end is not None and step.index > self.ras.end:
            return "after the end"
        return "planned" if isinstance(ratios, list) and ratios[step.index] == 1 else "nothing to cache"

    @property
    def _plans(self) -> list[Plan]:
        return [self.plan] if self.coarse is None else [self.coarse, self.plan]


def priced(
    how: Preset,
    spec: ModelSpec,
    size: tuple[int, int] | None,
    *,
    ntk: Ntk,
    skips: SkipLayerGuidance | None = None,
    precisions: tuple[Precision, ...],
) -> Outlook:
    """With a bundle of that model, at a size (width, height) in pixels, by default its own."""
    if ntk is not None and all(port.name != "ntk" for port in spec.graphs.place.inputs):
        raise RequestError("ntk is nothing that this model knows; leave it out")
    model, layout = model_of(spec), TokenLayout.of(spec, size)
    scale = spec.latent.downscale
    size = layout.width * scale, layout.height * scale
    coarse, before = None, 0 if how.coarse is None else how.coarse.count
    first, end = (0, 0) if skips is None else skips.steps(before + how.count)
    own = first - before, end - before
    planned = how.plan(layout.tokens, layout.pinned, head_multiple_of(spec), model.phases(ntk, size), own)
    check_rest(planned, model)
    cost = price(spec, planned)
    if how.coarse is not None:
        smaller = coarse_layout(layout, how.coarse.factor)
        small = smaller.width * scale, smaller.height * scale
        phases = model.phases(ntk, small)
        coarse = how.coarse.plan(smaller.tokens, smaller.pinned, how.shift or 1.0, phases, (first, end))
        cost = cost.after(price(spec, coarse))
    plans = [planned] if coarse is None else [coarse, planned]
    needed: dict[str, Memory] = {precision: memory(spec, plans, precision, size=size) for precision in precisions}
    skipped = () if skips is None else skipped_layers(skips, model)
    return Outlook(planned, how.ras, how.solver, cost, bool(how.weights), coarse, needed, skipped=skipped)


def counted(how: Preset, tokens: int) -> Outlook:
    """Without a bundle: tokens are all that is known."""
    coarse = None
    if how.coarse is not None:
        smaller, rest = divmod(tokens, how.coarse.factor**2)
        if rest:
            raise RequestError(
                f"{tokens} tokens are no picture of {how.coarse.factor} times the size; try --bundle demo"
            )
        coarse = how.coarse.plan(smaller, shift=how.shift or 1.0)
    return Outlook(how.plan(tokens), how.ras, how.solver, None, bool(how.weights), coarse)
