"""What is compared: fewer dense steps on their best grids, the published choices, the presets of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flagdit.engine.presets import PRESETS, Preset, falling
from flagdit.engine.ras import DENSE, RasConfig, Solver

STEPS = 30
"""Of the run that cost and time are measured by: dense, Euler."""
FEWER = (4, 6, 8, 10, 12, 14, 17, 20, 24)
RATIOS = (0.75, 0.5, 0.25, 0.125)
OURS = (
    (12, 5, 0.5, 0.3, 4.0),
    (16, 6, 0.5, 0.25, 3.0),
    (20, 8, 0.6, 0.3, 3.0),
    (24, 8, 0.4, 0.15, 3.0),
)
"""Steps, dense ones at the start, ratio after them and before the last, which is dense again, and the shift."""

FAMILIES = {
    "dense": "dense, fewer Euler steps on their best grid",
    "ab2": "dense, fewer ab2 steps on their best grid",
    "paper": "RAS as published",
    "uncalibrated": "RAS with flagdit's options, not calibrated",
    "flagdit": "flagdit's presets",
}

Grids = Mapping[tuple[Solver, int], float]
"""The best shift of dense steps, by solver and number of steps; where there is none, the model's own."""


@dataclass(frozen=True)
class Setting:
    """One way to make a picture. family: a key of FAMILIES, a line in the plot."""

    name: str
    family: str
    how: Preset


def dense(steps: int, solver: Solver = "euler", shift: float | None = None) -> Preset:
    """So many steps that compute everything."""
    return Preset(steps, solver, DENSE, shift)


def dense_runs(steps: Sequence[int]) -> list[tuple[Solver, int]]:
    """Solvers and numbers of dense steps: every second of `steps` is enough for the line of Euler."""
    most_first = sorted(steps, reverse=True)
    euler: list[tuple[Solver, int]] = [("euler", n) for n in (STEPS, *most_first[1::2])]
    return [*euler, *(("ab2", n) for n in (STEPS, *most_first))]


def settings(
    presets: Mapping[str, Preset] = PRESETS,
    grids: Grids | None = None,
    steps: Sequence[int] = FEWER,
    *,
    ratios: Sequence[float] = RATIOS,
) -> list[Setting]:
    """All settings; the first is what the others' cost and time are measured by."""
    shifts, out = grids or {}, list[Setting]()
    for solver, n in dense_runs(steps):
        name, family = (f"dense {n}", "dense") if solver == "euler" else (f"dense {n}, {solver}", solver)
        out.append(Setting(name, family, dense(n, solver, shifts.get((solver, n)))))
    for r in ratios:
        published = Preset(STEPS, "euler", RasConfig(ratio=r, mode="paper"), shifts.get(("euler", STEPS)))
        out.append(Setting(f"paper {r:g}", "paper", published))
    for n, warmup, first, last, shift in OURS:
        name = f"{n} steps, {warmup}+1 dense, {first:g}:{last:g}"
        out.append(Setting(name, "uncalibrated", Preset(n, "ab2", falling(warmup, first, last), shift)))
    return [*out, *(Setting(name, "flagdit", preset) for name, preset in presets.items())]
