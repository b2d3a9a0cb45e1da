"""What is compared: fewer dense steps, the published choices, ours with and without what goes beyond the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flagdit.engine.presets import PRESETS, falling
from flagdit.engine.ras import DENSE, RasConfig, Solver

STEPS = 30
"""Of the run that cost and time are measured by: dense, Euler."""
FEWER = (4, 6, 8, 10, 13, 16, 20, 24)
RATIOS = (0.75, 0.5, 0.25, 0.125)
OURS = (
    (5, 3, 0.4, 0.1, False),
    (6, 3, 0.4, 0.1, False),
    (8, 3, 0.4, 0.1, False),
    (10, 3, 0.4, 0.1, False),
    (10, 4, 0.4, 0.1, True),
    (12, 4, 0.4, 0.1, True),
    (20, 6, 0.4, 0.1, True),
    (24, 6, 0.5, 0.1, True),
    (24, 6, 0.5, 0.25, True),
    (24, 6, 0.75, 0.25, True),
    (30, 6, 0.9, 0.5, True),
)
"""Steps, dense ones at the start, ratio after them and ratio at the end, whether the last step is dense again."""

FAMILIES = {
    "dense": "dense, fewer Euler steps",
    "ab2": "dense, fewer ab2 steps",
    "paper": "RAS as published",
    "corrected": "RAS, its faults corrected",
    "flagdit": "RAS, flagdit's presets and options",
}


@dataclass(frozen=True)
class Setting:
    """One way to make a picture. family: a key of FAMILIES, a line in the plot."""

    name: str
    family: str
    steps: int
    solver: Solver
    ras: RasConfig


def settings(steps: Sequence[int] = FEWER, ratios: Sequence[float] = RATIOS) -> list[Setting]:
    """All settings; the first is what the others' cost and time are measured by."""
    dense = [Setting(f"dense {n}", "dense", n, "euler", DENSE) for n in (STEPS, *sorted(steps, reverse=True))]
    ab2 = [Setting(f"dense {n}, ab2", "ab2", n, "ab2", DENSE) for n in (STEPS, *sorted(steps, reverse=True))]
    paper = [Setting(f"paper {r:g}", "paper", STEPS, "euler", RasConfig(ratio=r, mode="paper")) for r in ratios]
    corrected = [
        Setting(f"corrected {r:g}", "corrected", STEPS, "euler", RasConfig(ratio=r, metric="std")) for r in ratios
    ]
    presets = [Setting(name, "flagdit", preset.steps, preset.solver, preset.ras) for name, preset in PRESETS.items()]
    ours = [
        Setting(
            f"{n} steps, {w} dense, {a:g} to {b:g}{', 1 dense' * last}", "flagdit", n, "ab2", falling(w, a, b, last)
        )
        for n, w, a, b, last in OURS
    ]
    return [*dense, *ab2, *paper, *corrected, *presets, *ours]
