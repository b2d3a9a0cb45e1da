"""Settings that are good together, by name; how they were chosen is in docs/performance.md."""

from __future__ import annotations

from dataclasses import dataclass

from flagdit.engine.errors import RequestError
from flagdit.engine.ras import RasConfig, Solver


@dataclass(frozen=True)
class Preset:
    """Steps, solver and region-adaptive sampling of a run."""

    steps: int
    solver: Solver
    ras: RasConfig


def falling(warmup: int, ratio: float, ratio_end: float, last_dense: bool = True) -> RasConfig:
    """Dense at the start, where the whole picture forms; then less and less, as ever fewer regions still change.

    A dense last step takes the noise off that stale velocities have left. In a run of twelve steps or more it costs
    little and shows much; in a shorter one the time is worth more in another step.
    """
    return RasConfig(ratio=ratio, ratio_end=ratio_end, warmup=warmup, resets=(-1,) if last_dense else ())


PRESETS = {
    "quality": Preset(30, "ab2", falling(6, 0.75, 0.25)),
    "balanced": Preset(30, "ab2", falling(4, 0.5, 0.1)),
    "fast": Preset(16, "ab2", falling(5, 0.4, 0.1)),
}
DEFAULT = "balanced"


def preset(name: str) -> Preset:
    """The preset of that name. Raises RequestError if there is none."""
    if name not in PRESETS:
        raise RequestError(f"preset is {name!r}; allowed are {', '.join(PRESETS)}")
    return PRESETS[name]


def default_solver(ras: RasConfig) -> Solver:
    """Second order at the price of Euler, where the mode knows more than Euler."""
    return "euler" if ras.mode == "paper" else "ab2"
