"""Options of region-adaptive sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flagdit.cpp_ext import ratios_of, resets_of

Solver = Literal["euler", "midpoint", "heun", "ab2"]
Metric = Literal["std", "l2", "change"]


@dataclass(frozen=True)
class RasConfig:
    """Region-adaptive sampling (Liu et al. 2025, arXiv 2502.10389): which part of the picture a step recomputes.

    Fields are grouped by what they decide; the solver, which moves the latents, is said beside them.

    mode: "corrected", or "paper" for the published code's choices, faults included where they are defined; docs/ras.md
        compares them one by one.

    How much a step computes (budget)

    ratio: share of the patches recomputed in a RAS step, in (0, 1], or one value per step; 1 is dense sampling. None is
        .25, in paper mode .5 as in the paper's code.
    ratio_end: the ratio falls (or grows) from `ratio` after the warm-up to this at the last step, in a line of at most
        8 levels.
    skip_step, skip_every: a linear schedule: this many patches more are left out every so many steps, and about the
        ratio's share in the middle of the run; 0 and 0 keep the ratio. The paper's example is 256 and 4 of 4096.
    warmup: dense steps at the start.
    end: the last step that may leave patches out; later ones are dense. None is the end of the run.
    resets: later dense steps; negative ones count from the end, -1 is the last step. None places two, at .4 and .733 of
        the run, which is 12 and 22 of 30 as in the paper; below 20 steps one in the middle of the rest, which its
        ablation found enough. Paper mode: 12 and 22 if the run has both.
    bucket: patches are recomputed in multiples of this; in paper mode 1.
    error_budget: with the metric "change", most error that the cached patches of a step may have on average, in units
        of the velocity's rms: a step then computes as many patches more than its ratio as that takes. 0 turns it off.
    gate: a step whose error would be below this if nothing were computed makes no call of `denoise`; 0 turns it off.

    Which patches those are (ranking)

    metric: what ranks the regions. "change": how far the velocity will be off if it is kept, from how fast it changed;
        "std" over channels (the paper's) or "l2" of the velocity. None is "change", in paper mode "std".
    high_ratio: share of the cached patches taken from the high end of the ranking. None is 1 as in the paper's code,
        with the metric "change" 0: what changes least is kept.
    starvation: how fast a patch that was left out gains priority; 0 turns it off together with the age bound.
    max_age: most steps a patch may go without being recomputed; None is twice the least that the ratio allows.
        Paper mode has no such bound.
    dilation: with the metric "change", a patch ranks at least as high as this share of each of its eight neighbours.

    How the others go on (forecast)

    forecast: velocity of a cached patch: 0 is that of its last computation (as published), 1 extrapolates its last two
        in a line through time, 2 its last three in a parabola.
    forecast_clamp: most that an extrapolation may change a velocity, in units of its norm; half of it by default.
    forecast_norm: whether an extrapolated velocity gets the norm of the cached one.
    forecast_kv: cached keys and values go along the line through their last two computed ones, to the time of the step,
        by this share of the way, in 0 to 1 (.5 is good), or a share for every step; 0 keeps them as they are.

    Which steps run both branches of guidance (guidance)

    guidance_every: with 2 or more, only each so many-th step runs the unconditional branch of guidance; the others
        guide each patch by the difference of the branches that it had last. 1 is every step.
    guidance_warmup: steps at the start that all run both branches, as resets do; None is half of the run.

    Whether the text rests (text)

    rest_text: where every step computes the text's tokens anew, steps that leave patches out leave the text out, too,
        and attend to the keys and values that it had in the last dense step.
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
    rest_text: bool = False

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
        return ratios_of(self, steps)

    def resets_of(self, steps: int) -> list[int]:
        """The reset steps of a run; the default leaves out those that fall into the warm-up."""
        return resets_of(self, steps)


DENSE = RasConfig(ratio=1.0)
