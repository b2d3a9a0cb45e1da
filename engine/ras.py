"""Options of region-adaptive sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np

from flagdit.engine.errors import RequestError
from flagdit.engine.layout import MAX_TOKENS
from flagdit.engine.times import MAX_STEPS

MOST = {
    "warmup": MAX_STEPS,
    "bucket": MAX_TOKENS,
    "max_age": MAX_STEPS,
    "skip_step": MAX_TOKENS,
    "skip_every": MAX_STEPS,
    "end": MAX_STEPS,
}
"""How large the numbers of RasConfig may be that are counted with, in either direction; the plan bounds them closer."""

MAX_STARVATION = 10  # the paper takes 0.1; at 10, nine drops are more than a float can weigh
PAPER_RESETS = (12, 22)

Solver = Literal["euler", "midpoint", "heun", "ab2"]
Metric = Literal["std", "l2", "change"]


LEVELS = 8
"""Ratios that a falling one has at most: every number of tokens is another shape to bind, and another CUDA graph."""


@dataclass(frozen=True)
class RasConfig:
    """Region-adaptive sampling (Liu et al. 2025, arXiv 2502.10389): which part of the picture a step recomputes.

    mode: "corrected", or "paper" for the published code's choices, faults included where they are defined; docs/ras.md
        compares them row by row.
    ratio: share of the patches recomputed in a RAS step, in (0, 1], or one value per step; 1 is dense sampling. None is
        .25, in paper mode .5 as in the paper's code.
    ratio_end: the ratio falls (or grows) from `ratio` after the warm-up to this at the last step, in a line of at most
        8 levels (LEVELS).
    skip_step, skip_every: a linear schedule: this many patches more are left out every so many steps, and about the
        ratio's share in the middle of the run; 0 and 0 keep the ratio. The paper's example is 256 and 4 of 4096.
    warmup: dense steps at the start.
    end: the last step that may leave patches out; later ones are dense. None is the end of the run.
    resets: later dense steps; negative ones count from the end, -1 is the last step. None places two, at .4 and .733 of
        the run, which is 12 and 22 of 30 as in the paper; below 20 steps one in the middle of the rest, which its
        ablation found enough. Paper mode: 12 and 22 if the run has both.
    metric: what ranks the regions. "change": how far the velocity will be off if it is kept, from how fast it changed;
        "std" over channels (the paper's) or "l2" of the velocity. None is "change", in paper mode "std".
    high_ratio: share of the cached patches taken from the high end of the ranking. None is 1 as in the paper's code,
        with the metric "change" 0: what changes least is kept.
    starvation: how fast a patch that was left out gains priority; 0 turns it off together with the age bound.
    max_age: most steps a patch may go without being recomputed; None is twice the least that the ratio allows.
        Paper mode has no such bound.
    bucket: patches are recomputed in multiples of this; in paper mode 1.
    forecast: velocity of a cached patch: 0 is that of its last computation (as published), 1 extrapolates its last two
        in a line through time, 2 its last three in a parabola.
    forecast_clamp: most that an extrapolation may change a velocity, in units of its norm; half of it by default.
    forecast_norm: whether an extrapolated velocity gets the norm of the cached one.
    forecast_kv: cached keys and values go along the line through their last two computed ones, to the time of the step,
        by this share of the way, in 0 to 1 (.5 is good), or a share for every step; 0 keeps them as they are.
    dilation: with the metric "change", a patch ranks at least as high as this share of each of its eight neighbours.
    error_budget: with the metric "change", most error that the cached patches of a step may have on average, in units
        of the velocity's rms: a step then computes as many patches more than its ratio as that takes. 0 turns it off.
    gate: a step whose error would be below this if nothing were computed makes no engine call; 0 turns it off.
    guidance_every: with 2 or more, only each so many-th step runs the unconditional branch of guidance; the others
        guide each patch by the difference of the branches that it had last. 1 is every step.
    guidance_warmup: steps at the start that all run both branches, as resets do; None is half of the run.
    """

    ratio: float | Sequence[float] | None = None
    ratio_end: float | None = None
    warmup: int = 4
    resets: tuple[int, ...] | None = None
    metric: Metric | None = None
    high_ratio: float | None = None
    starvation: float = 0.1
    max_age: int | None = None
    bucket: int = 1
    mode: Literal["corrected", "paper"] = "corrected"
    skip_step: int = 0
    skip_every: int = 0
    end: int | None = None
    forecast: Literal[0, 1, 2] = 0
    forecast_clamp: float = 0.5
    forecast_norm: bool = False
    forecast_kv: float | Sequence[float] = 0.0
    dilation: float = 0.0
    error_budget: float = 0.0
    gate: float = 0.0
    guidance_every: int = 1
    guidance_warmup: int | None = None

    @property
    def ranking(self) -> Metric:
        """The metric, whether it was said or not."""
        return self.metric or ("std" if self.mode == "paper" else "change")

    @property
    def share(self) -> float | Sequence[float]:
        """The ratio, whether it was said or not."""
        if self.ratio is not None:
            return self.ratio
        return 0.5 if self.mode == "paper" else 0.25

    def ratios(self, steps: int) -> float | list[float]:
        """The ratio of all steps, or of each."""
        share = self.share
        if not isinstance(share, float | int):
            return list(share)
        if self.ratio_end is None:
            return share
        first, last = min(self.warmup, steps), max(steps - 1, 1)
        place = [min(max((s - first) / max(last - first, 1), 0.0), 1.0) for s in range(steps)]
        stairs = max(min(LEVELS - 1, last - first), 1)
        return [share + round(p * stairs) / stairs * (self.ratio_end - share) for p in place]

    def resets_of(self, steps: int) -> list[int]:
        """The reset steps of a run; the default leaves out those that fall into the warm-up."""
        if self.resets is not None:
            return sorted({r + steps if -steps <= r < 0 else r for r in self.resets})
        if self.mode == "paper" and steps > max(PAPER_RESETS):
            return list(PAPER_RESETS)
        if steps >= 20:
            return sorted({r for r in (round(0.4 * steps), round(0.733 * steps)) if self.warmup < r})
        middle = (self.warmup + steps) // 2
        return [middle] if self.warmup + 1 < middle < steps else []


DENSE = RasConfig(ratio=1.0)


def check(ras: RasConfig, solver: Solver) -> None:
    """Refuse options that the core does not see, or could not tell the mode of. Raises RequestError."""
    for name, limit in MOST.items():
        if getattr(ras, name) is not None:
            check_whole(name, getattr(ras, name), limit)
    for name in ("ratio", "resets", "forecast_kv"):
        values = getattr(ras, name)
        if isinstance(values, Sequence | np.ndarray) and len(values) > MAX_STEPS:
            raise RequestError(f"{name} has {len(values)} values; allowed are {MAX_STEPS} at most, one for each step")
    for reset in ras.resets or ():
        check_whole("a reset", reset, MAX_STEPS)
    if not 0 <= ras.starvation <= MAX_STARVATION:
        raise RequestError(f"starvation is {ras.starvation}; allowed are 0 to {MAX_STARVATION}")
    if ras.forecast not in (0, 1, 2) or not 0 < ras.forecast_clamp <= 100:
        raise RequestError(
            f"forecast is {ras.forecast}, forecast_clamp {ras.forecast_clamp}; allowed: 0 to 2, and above 0 to 100"
        )
    if ras.ranking not in get_args(Metric):
        raise RequestError(f"metric is {ras.ranking!r}; allowed are {', '.join(get_args(Metric))}")
    if ras.ratio_end is not None and not isinstance(ras.share, float | int):
        raise RequestError("ratio is a list and there is a ratio_end; give one ratio with it, or the list alone")
    if ras.ratio_end is not None and not 0 < ras.ratio_end <= 1:
        raise RequestError(f"ratio_end is {ras.ratio_end}; allowed are above 0 to 1")
    for name, end in (("dilation", 1.0), ("error_budget", 10.0), ("gate", 10.0)):
        value = getattr(ras, name)
        if not 0 <= value <= end:
            raise RequestError(f"{name} is {value}; allowed are 0 to {end:g}")
        if value and (ras.ranking != "change" or ras.high_ratio):
            raise RequestError(
                f"{name} is {value}, which needs the metric 'change' and no high_ratio; got {ras.ranking!r}, "
                f"{ras.high_ratio}"
            )
    if ras.mode == "paper":
        _check_paper(ras, solver)


def check_whole(name: str, value: object, most: int) -> None:
    """Raise RequestError unless the value is a whole number of no more than that, in either direction."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or abs(cast(int, value)) > most:
        raise RequestError(f"{name} is {value!r}; allowed are whole numbers, {most} at most")


def _check_paper(ras: RasConfig, solver: Solver) -> None:
    """Refuse what the published code does not have."""
    if ras.forecast or solver != "euler":
        raise RequestError(f"paper mode is Euler without forecast; got {solver}, forecast {ras.forecast}")
    if ras.forecast_kv:
        raise RequestError(f"paper mode keeps what it cached as it is; got forecast_kv {ras.forecast_kv}")
    if ras.guidance_every != 1:
        raise RequestError(f"paper mode runs both branches in every step; got guidance_every {ras.guidance_every}")
    if ras.ranking == "change" or ras.ratio_end is not None:
        raise RequestError(f"paper mode ranks by std or l2, at one ratio; got {ras.ranking}, ratio_end {ras.ratio_end}")
