"""Settings that are good together, by name: those of flagdit for any model, and those that a bundle was calibrated for.

How they were chosen is in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from flagdit import cpp_ext
from flagdit.cpp_ext import DEFAULT_PRESET as DEFAULT
from flagdit.cpp_ext import Plan
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.bundle import Preset as PresetSpec
from flagdit.engine.coarse import Coarse
from flagdit.engine.model import model_of
from flagdit.engine.ras import RasConfig, Solver

__all__ = ["DEFAULT", "PRESETS", "Preset", "Weights", "falling", "of_spec", "presets_of"]

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

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> Preset:
        """From what the core says of one."""
        coarse = None if parts["coarse"] is None else Coarse(**parts["coarse"])
        return cls(**{**parts, "ras": RasConfig(**parts["ras"]), "coarse": coarse})

    @property
    def count(self) -> int:
        """The number of steps, at the full size."""
        return self.steps if isinstance(self.steps, int) else len(self.steps) - 1

    @property
    def evaluations(self) -> int:
        """Evaluations of the velocity that it plans, coarse ones too."""
        coarse = 0 if self.coarse is None else self.coarse.count
        return coarse + self.count * (2 if self.solver in ("midpoint", "heun") else 1)

    def plan(
        self,
        tokens: int,
        pinned: int = 0,
        head_multiple: int = 1,
        phases: Sequence[float] = (),
        skips: tuple[int, int] = (0, 0),
    ) -> Plan:
        """Its steps over so many tokens of the full size (make_plan); with no shift of its own, even ones."""
        return cpp_ext.plan_of(self, tokens, pinned, head_multiple, phases, skips)


def falling(
    warmup: int, ratio: float, ratio_end: float, *, last_dense: bool = True, forecast_kv: float = 0.5
) -> RasConfig:
    """Dense at the start, where the whole picture forms; then less and less, as ever fewer regions still change.

    A dense last step takes the noise off that stale velocities have left. In a run of twelve steps or more it costs
    little and shows much; in a shorter one the time is worth more in another step.
    """
    return RasConfig(**cpp_ext.falling_fields(warmup, ratio, ratio_end, last_dense, forecast_kv))


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {name: Preset.of(parts) for name, parts in cpp_ext.presets_of([], 1, 1).items()}
)
"""For a model that was not calibrated."""


def of_spec(spec: PresetSpec) -> Preset:
    """A preset of a manifest."""
    return Preset.of(cpp_ext.preset_of(spec))


def presets_of(spec: ModelSpec, size: tuple[int, int] | None = None) -> dict[str, Preset]:
    """All presets of a model: flagdit's, or in their place its own of the same names, cheapest first.

    Of a name that was calibrated for several sizes, that for the size nearest to `size` (width, height), by area.
    Raises RequestError for a size that cannot be.
    """
    return {name: Preset.of(parts) for name, parts in model_of(spec).presets(size).items()}
