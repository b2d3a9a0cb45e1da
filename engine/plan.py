"""The plan of a run: what every step computes, decided before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from flagdit import cpp_ext
from flagdit.cpp_ext import Plan
from flagdit.engine.ras import RasConfig, Solver
from flagdit.engine.times import RUN, Span

__all__ = ["Plan", "make_plan"]


def make_plan(
    ras: RasConfig,
    steps: int | Sequence[float],
    tokens: int,
    *,
    pinned: int = 0,
    shift: float = 1.0,
    solver: Solver = "euler",
    weights: Sequence[tuple[float, float, float]] = (),
    span: Span = RUN,
    head_multiple: int = 1,
    phases: Sequence[float] = (),
    skips: tuple[int, int] = (0, 0),
) -> Plan:
    """Plan `steps` steps, or those between given times, over `tokens` tokens, of which `pinned` are always recomputed.

    Pinned are [nextline] tokens, one a line of patches; without any, the picture is a square if its patches make one.

    weights: of each step, of its velocity, slope and curve (solver.h), in place of the solver's own.
    span: the times that it begins and ends at, see times_of.
    head_multiple: of the model (head_multiple_of): active tokens of a step are a multiple of it, or all of them.
    phases: times of the model from which on tokens are placed anew, which the first step of each makes dense.
    skips: the first step that runs a branch that skips layers, and the first after them: both are dense.

    Raises RequestError if an option is out of bounds, or contradicts another.
    """
    return cpp_ext.make_plan(ras, steps, tokens, pinned, shift, solver, weights, span, head_multiple, phases, skips)
