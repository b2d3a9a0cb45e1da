"""The plan of a run: what every step computes, decided before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flagdit.cpp_ext import (
    Budget,
    Forecast,
    Keeps,
    Plan,
    Ranking,
    Step,
    least_max_age,
    plan_evaluations,
    plan_steps,
    refresh_capacity,
)
from flagdit.engine.caches import dampings
from flagdit.engine.errors import RequestError
from flagdit.engine.guidance import unconditional_steps
from flagdit.engine.ras import RasConfig, Solver, check
from flagdit.engine.times import RUN, Span, times_of

__all__ = ["Plan", "make_plan"]


def make_plan(
    ras: RasConfig,
    steps: int | Sequence[float],
    tokens: int,
    pinned: int = 0,
    shift: float = 1.0,
    solver: Solver = "euler",
    weights: Sequence[tuple[float, float, float]] = (),
    span: Span = RUN,
) -> Plan:
    """Plan `steps` steps, or those between given times, over `tokens` tokens, of which `pinned` are always recomputed.

    Pinned are [nextline] tokens, one a row of patches; without any, the picture is a square if its patches make one.

    weights: of each step, of its velocity, slope and curve (solver.h), in place of the solver's own.
    span: the times that it begins and ends at, see times_of.

    Raises RequestError if an option is out of bounds, or contradicts another.
    """
    times = times_of(steps, shift, span)
    check(ras, solver)
    count = len(times) - 1
    resets = ras.resets_of(count)
    full, shares = {*range(ras.warmup), *resets}, dampings(ras.forecast_kv, count)
    unconditional = unconditional_steps(count, ras.guidance_every, ras.guidance_warmup, full)
    try:
        planned = plan_steps(
            times,
            tokens,
            pinned=pinned,
            ratio=ras.ratios(count),
            warmup=min(ras.warmup, count),
            resets=resets,
            bucket=ras.bucket,
            end=ras.end,
            skip_step=ras.skip_step,
            skip_every=ras.skip_every,
            high_ratio=(ras.ranking != "change") if ras.high_ratio is None else ras.high_ratio,
            mode=ras.mode,
            rows=_rows(tokens, pinned),
        )
        evaluations = plan_evaluations(planned, solver, weights)
        max_age = _max_age(ras, planned, tokens, pinned)
        capacity = refresh_capacity(planned, tokens, pinned, max(max_age, least_max_age(planned, tokens, pinned)))
    except ValueError as error:
        raise RequestError(str(error).removeprefix("plan_steps: ").removeprefix("plan_evaluations: ")) from None
    arcs = any(e.arc for e in evaluations)
    if ras.forecast == 1 and arcs:
        raise RequestError(
            "forecast is 1, a line, and the weights of the steps have a curve, which would bend it; allowed are 0 and 2"
        )
    slope = ras.forecast > 0 or any(e.bend for e in evaluations)
    curve = ras.forecast == 2 or arcs
    damping = [0.0 if step.dense else share for step, share in zip(planned, shares, strict=True)]
    velocity = (slope or curve or ras.ranking == "change", slope or curve, curve)
    rate, slope, curve = velocity
    return Plan(
        steps=planned,
        evaluations=evaluations,
        damping=damping,
        unconditional=unconditional,
        tokens=tokens,
        pinned=pinned,
        max_age=max_age,
        capacity=capacity,
        keeps=Keeps(rate=rate, slope=slope, curve=curve, difference=not all(unconditional), cache_slope=any(damping)),
        ranking=Ranking(metric=ras.ranking, mode=ras.mode, starvation=ras.starvation, dilation=ras.dilation),
        forecast=Forecast(order=ras.forecast, clamp=ras.forecast_clamp, keep_norm=ras.forecast_norm),
        budget=Budget(error_budget=ras.error_budget, gate=ras.gate, bucket=ras.bucket),
    )


def _rows(tokens: int, pinned: int) -> int:
    """Rows of patches; 1 if nothing tells them."""
    patches = tokens - pinned
    rows = pinned or math.isqrt(max(patches, 0))
    return rows if 0 < rows <= patches and patches % rows == 0 else 1


def _max_age(ras: RasConfig, steps: list[Step], tokens: int, pinned: int) -> int:
    if ras.mode == "paper" and ras.max_age is not None:
        raise RequestError(f"max_age is {ras.max_age}; paper mode promises no bound, so leave it out")
    if ras.mode == "paper" or ras.starvation == 0:
        return -1
    least = least_max_age(steps, tokens, pinned)
    if ras.max_age is None:
        return 2 * least
    if ras.max_age < least:
        raise RequestError(f"max_age is {ras.max_age}; this plan recomputes too little to promise less than {least}")
    return ras.max_age
