"""How a run is sampled, as the options of a command say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from flagdit.engine.commands.coarse import parse_coarse
from flagdit.engine.commands.common import Mode, parse_ratio, parse_schedule, parse_times
from flagdit.engine.commands.ras import parse_ras
from flagdit.engine.errors import RequestError
from flagdit.engine.ras import RasConfig, Solver
from flagdit.engine.resolve import Options


def sampling(
    *,
    preset: str | None,
    steps: int | None,
    solver: str | None,
    ratio: str | None,
    mode: Mode,
    schedule: str | None,
    shift: float | None = None,
    times: str | None = None,
    dense: bool = False,
    error_budget: float = 0.0,
    guidance_every: int = 1,
    guidance_warmup: int | None = None,
    forecast_kv: float | None = None,
    coarse: str | None = None,
    ras: Sequence[str] | None = None,
) -> Options:
    """What the options of a command say; what none says is the preset's."""
    if steps is not None and times is not None:
        raise RequestError(f"--steps {steps} and --times contradict each other; give one of them")
    changes: dict[str, Any] = {"error_budget": error_budget} if error_budget else {}
    if guidance_every != 1 or guidance_warmup is not None:
        changes |= {"guidance_every": guidance_every, "guidance_warmup": guidance_warmup}
    if forecast_kv is not None:
        changes["forecast_kv"] = forecast_kv
    named, alone = parse_ras(ras)
    for name in named.keys() & changes.keys():
        raise RequestError(f"{name} is said twice, by --{name.replace('_', '-')} and --ras {name}=; give one of them")
    return Options(
        preset=preset,
        steps=steps if times is None else parse_times(times),
        shift=shift,
        solver=cast(Solver | None, solver),  # the plan refuses a name that is none
        dense=dense,
        mode="paper" if mode is Mode.paper else "corrected",
        ratio=None if ratio is None else parse_ratio(ratio),
        schedule=None if schedule is None else parse_schedule(schedule),
        ras=RasConfig(**named) if alone else None,
        changes=changes if alone else changes | named,
        coarse=None if coarse is None else parse_coarse(coarse),
    )
