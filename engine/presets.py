"""Settings that are good together, by name: those of flagdit for any model, and those that a bundle was calibrated for.

How they were chosen is in docs/performance.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flagdit.engine.coarse import Coarse, full_span
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import TokenLayout
from flagdit.engine.manifest import ModelSpec
from flagdit.engine.manifest import Preset as PresetSpec
from flagdit.engine.plan import Plan, make_plan
from flagdit.engine.ras import DENSE, RasConfig, Solver

Weights = tuple[float, float, float]


@dataclass(frozen=True)
class Preset:
    """How a run is sampled.

    steps: how many, or the times they lie between, from 0 (noise) to 1 (data).
    solver, ras: see Pipeline and RasConfig.
    shift: time shift of a number of steps; None is the model's own.
    weights: of each step, of its velocity, slope and curve in units of h, h^2 and h^3 (solver.h); none are the
        solver's own.
    coarse: what begins at a smaller size; the steps are then those at the full one, from the time `coarse.until`.
    """

    steps: int | tuple[float, ...]
    solver: Solver
    ras: RasConfig
    shift: float | None = None
    weights: tuple[Weights, ...] = ()
    coarse: Coarse | None = None

    @property
    def count(self) -> int:
        """The number of steps, at the full size."""
        return self.steps if isinstance(self.steps, int) else len(self.steps) - 1

    @property
    def evaluations(self) -> int:
        """Evaluations of the velocity that it plans, coarse ones too."""
        coarse = 0 if self.coarse is None else self.coarse.count
        return coarse + self.count * (2 if self.solver in ("midpoint", "heun") else 1)

    def plan(self, tokens: int, pinned: int = 0) -> Plan:
        """Its steps over so many tokens of the full size (make_plan); with no shift of its own, even ones."""
        shift = 1.0 if self.shift is None else self.shift
        span = full_span(self.coarse)
        return make_plan(self.ras, self.steps, tokens, pinned, shift, self.solver, self.weights, span)


def falling(
    warmup: int, ratio: float, ratio_end: float, last_dense: bool = True, forecast_kv: float = 0.5
) -> RasConfig:
    """Dense at the start, where the whole picture forms; then less and less, as ever fewer regions still change.

    A dense last step takes the noise off that stale velocities have left. In a run of twelve steps or more it costs
    little and shows much; in a shorter one the time is worth more in another step.
    """
    resets = (-1,) if last_dense else ()
    return RasConfig(ratio=ratio, ratio_end=ratio_end, warmup=warmup, resets=resets, forecast_kv=forecast_kv)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "quality": Preset(20, "ab2", falling(8, 0.6, 0.3)),
        "balanced": Preset(16, "ab2", falling(6, 0.5, 0.25)),
        "fast": Preset(10, "ab2", DENSE),
    }
)
"""For a model that was not calibrated."""
DEFAULT = "balanced"


def of_spec(spec: PresetSpec) -> Preset:
    """A preset of a manifest."""
    steps, ratios = len(spec.times) - 1, spec.ratios
    warmup = next((i for i, ratio in enumerate(ratios) if ratio < 1), steps)
    ras = RasConfig(
        ratio=list(ratios) if warmup < steps else 1.0,
        warmup=warmup,
        resets=(),
        forecast_kv=list(spec.forecast_kv) or 0.0,
    )
    begin, coarse = spec.coarse, None
    if begin is not None:
        coarse = Coarse(begin.factor, begin.times, None, until=spec.times[0], end=begin.times[-1])
    return Preset(spec.times, "ab2", ras, None, spec.weights, coarse)


def presets_of(spec: ModelSpec, size: tuple[int, int] | None = None) -> dict[str, Preset]:
    """All presets of a model: flagdit's, or in their place its own of the same names, cheapest first.

    Of a name that was calibrated for several sizes, that for the size nearest to `size` (width, height), by area.
    Raises RequestError for a size that cannot be.
    """
    layout = TokenLayout.of(spec, size)

    def distance(preset: PresetSpec) -> float:
        return abs(math.log(preset.size[0] * preset.size[1] / (layout.width * layout.height)))

    own: dict[str, PresetSpec] = {}
    for preset in sorted(spec.presets, key=distance, reverse=True):
        own[preset.name] = preset  # the nearest comes last
    calibrated = {preset.name: of_spec(preset) for preset in sorted(own.values(), key=lambda preset: preset.cost)}
    return {**calibrated, **{name: preset for name, preset in PRESETS.items() if name not in calibrated}}


def find(name: str, presets: Mapping[str, Preset] = PRESETS) -> Preset:
    """The preset of that name. Raises RequestError if there is none."""
    if name not in presets:
        raise RequestError(f"preset is {name!r}; allowed are {', '.join(presets)}")
    return presets[name]


def default_solver(ras: RasConfig) -> Solver:
    """Second order at the price of Euler, where the mode knows more than Euler."""
    return "euler" if ras.mode == "paper" else "ab2"
