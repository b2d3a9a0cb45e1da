"""A plan that `flagdit calibrate` found, as a manifest holds it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from flagdit.engine.bundle.spec import Size, Spec


def _in_order(times: tuple[float, ...]) -> tuple[float, ...]:
    for before, after in pairwise(times):
        if not before < after:
            raise ValueError(f"the times are not in order: {after:g} is after {before:g}")
    return times


Time = Annotated[float, Field(ge=0, le=1)]
Times = Annotated[tuple[Time, ...], Field(min_length=2, max_length=1001), AfterValidator(_in_order)]
Weight = Annotated[float, Field(ge=-100, le=100)]


class CoarseSteps(Spec):
    """Dense steps of ab2 that a plan begins with, at the size over `factor`: between times from 0 to 1 or before.

    The picture is then enlarged, and brought with noise to the first of the plan's own times.
    """

    factor: Annotated[int, Field(ge=2, le=16)]
    times: Times

    @model_validator(mode="after")
    def _begins_at_noise(self) -> CoarseSteps:
        if self.times[0] != 0:
            raise ValueError(f"the times begin at {self.times[0]:g}; allowed is 0")
        return self


class Preset(Spec):
    """A plan that `flagdit calibrate` found: of S steps between S + 1 times, and what it was measured to do.

    weights: of each step, of its velocity, slope and curve (solver.h). ratios: the share of the patches that each
    computes. forecast_kv: see RasConfig, of each step; rest_text too. coarse: what comes before the first of the
    times, which is then above 0. cost: FLOPs over those of 30 dense steps. psnr: dB to the converged picture, over the
    prompts that it was chosen by, and over others ("held_out"); "dense" is that of plain dense steps of that cost, of
    ab2 or Euler on their best grid, over the same others.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")]
    size: Size
    times: Times
    weights: tuple[tuple[Weight, Weight, Weight], ...]
    ratios: tuple[Annotated[float, Field(gt=0, le=1)], ...]
    forecast_kv: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    rest_text: bool = False
    coarse: CoarseSteps | None = None
    cost: Annotated[float, Field(gt=0, le=1e6)]
    psnr: dict[Literal["chosen", "held_out", "dense"], Annotated[float, Field(ge=-1e3, le=1e3)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _fits(self) -> Preset:
        steps = len(self.times) - 1
        for name in ("weights", "ratios", "forecast_kv"):
            if len(getattr(self, name)) not in ((0, steps) if name != "ratios" else (steps,)):
                raise ValueError(f"{name} are {len(getattr(self, name))}, and there are {steps} steps")
        if (self.coarse is None) != (self.times[0] == 0):
            raise ValueError(f"the times begin at {self.times[0]:g}; allowed is 0, or above it after coarse steps")
        if self.times[-1] != 1:
            raise ValueError(f"the times end at {self.times[-1]:g}; allowed is 1")
        if self.ratios[0] != 1:
            raise ValueError(f"the first ratio is {self.ratios[0]:g}; allowed is 1: nothing is cached yet")
        return self
