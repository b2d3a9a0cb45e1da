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


PRESETS = {
    "quality": Preset(30, "ab2", RasConfig(ratio=0.8, ratio_end=0.25, resets=())),
    "balanced": Preset(30, "ab2", RasConfig(ratio=0.5, ratio_end=0.125, resets=())),
    "fast": Preset(20, "ab2", RasConfig(ratio=0.5, ratio_end=0.125, resets=())),
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
