"""What was said of how to sample, a preset, and the model's defaults: the only place where they meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from flagdit.engine.coarse import Coarse
from flagdit.engine.errors import RequestError
from flagdit.engine.presets import DEFAULT, PRESETS, Preset, default_solver, find
from flagdit.engine.ras import DENSE, RasConfig, Solver
from flagdit.engine.times import checked_count, checked_shift, unshifted

PLANNED = frozenset({"ratio", "ratio_end", "skip_step", "skip_every", "warmup", "resets", "end"})
"""Fields of RasConfig that say how much each step computes: what was calibrated for other steps does not hold then."""
ACTING = frozenset({"mode", "ratio", "ratio_end", "skip_step", "skip_every", "guidance_every", "guidance_warmup"})
"""Fields of RasConfig that do something to a dense run, too; `warmup` and `resets` say when both branches run."""

PAPER = Preset(30, "euler", RasConfig(mode="paper"))
"""What paper mode begins with: no preset has anything to say of it."""


@dataclass(frozen=True)
class Options:
    """What a caller says; None leaves it to the preset.

    steps, shift, solver: see Pipeline. ras: all of RasConfig, in place of the preset's.
    dense: compute everything in every step. mode: see RasConfig.
    ratio: of the steps that the preset does not make dense, the same in all (then without an end) or falling.
    schedule: patches and steps, RasConfig.skip_step and skip_every.
    changes: of fields of RasConfig, by name. A ratio, a schedule and a mode are what the options of those names say; a
        list of ratios says also which steps are dense; and `warmup` and `resets` are all that is, in a preset too.
    coarse: what begins at a smaller size; one of factor 1 turns off what the preset has. The preset's steps and regions
        are then those that it has after the time `coarse.until`; `steps` are those at the full size.
    """

    preset: str | None = None
    steps: int | Sequence[float] | None = None
    shift: float | None = None
    solver: Solver | None = None
    ras: RasConfig | None = None
    dense: bool = False
    mode: Literal["corrected", "paper"] = "corrected"
    ratio: tuple[float, float | None] | None = None
    schedule: tuple[int, int] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    coarse: Coarse | None = None

    @property
    def begins_with(self) -> str | None:
        """The preset that all that is not said is from; paper mode has none."""
        return None if _paper(self) or self.changes.get("mode") == "paper" else self.preset or DEFAULT

    @property
    def leave_the_plan(self) -> bool:
        """Whether steps and regions are the preset's, so that what was calibrated for them still holds."""
        said = (self.steps, self.shift, self.solver, self.ras, self.ratio, self.schedule, self.coarse)
        own = self.dense or self.mode == "paper" or PLANNED & self.changes.keys()
        return not own and all(value is None for value in said)


def resolve(options: Options, presets: Mapping[str, Preset] = PRESETS, shift: float = 1.0) -> Preset:
    """How a run is sampled, with nothing left open; `shift` is the model's own.

    Raises RequestError if options contradict each other, name no preset, or say a number of steps, or a shift that it
    has to count with, that is out of bounds; all other bounds are the plan's to check.
    """
    options = _by_name(options)
    _check(options)
    base = PAPER if _paper(options) else find(options.preset or DEFAULT, presets)
    if options.coarse is not None and options.coarse.factor == 1 and base.coarse is None:
        options = replace(options, coarse=None)
    if options.leave_the_plan:
        return _used(options, replace(base, ras=replace(base.ras, **options.changes), shift=_shift(base.shift, shift)))
    coarse = _coarse(options, base)
    steps = _steps(options, base, _shift(options.shift, base.shift, shift))
    ras = options.ras or (DENSE if options.dense else _regions(options, base, Preset(steps, "ab2", DENSE).count))
    ras = changed(ras, options.changes, Preset(steps, "ab2", DENSE).count)
    solver = options.solver or (default_solver(ras) if options.ras else base.solver)
    return _used(options, Preset(steps, solver, ras, _shift(options.shift, base.shift, shift), coarse=coarse))


def _paper(options: Options) -> bool:
    return options.mode == "paper" or (options.ras is not None and options.ras.mode == "paper")


def _by_name(options: Options) -> Options:
    """Mode, ratio and schedule among the changes as the options that they are. Raises RequestError if said twice."""
    changes, ratio, schedule = dict(options.changes), options.ratio, options.schedule
    if options.ras is not None:
        return options
    mode = changes.pop("mode", options.mode)
    _once("mode", options.mode == "paper" and mode == "corrected")
    _once("ratio", ratio is not None and "ratio" in changes)
    _once("ratio_end", ratio is not None and ratio[1] is not None and "ratio_end" in changes)
    _once("schedule", schedule is not None and bool(changes.keys() & {"skip_step", "skip_every"}))
    if isinstance(changes.get("ratio"), float | int):
        ratio = changes.pop("ratio"), None
    if ratio is not None:
        ratio = ratio[0], changes.pop("ratio_end", ratio[1])
    if changes.get("skip_step") and changes.get("skip_every"):
        schedule = changes.pop("skip_step"), changes.pop("skip_every")
    return replace(options, mode=mode, ratio=ratio, schedule=schedule, changes=changes)


def _once(name: str, twice: bool) -> None:
    if twice:
        raise RequestError(f"{name} is said twice, by an option of its own and among those of ras; say it once")


def _idle(changes: Mapping[str, Any], every: int) -> list[str]:
    """What says something of patches that are left out, and else nothing; `every` is guidance_every."""
    acting = ACTING if every == 1 else ACTING | {"warmup", "resets"}
    return [name for name, value in changes.items() if name not in acting and value != getattr(RasConfig(), name)]


def _check(options: Options) -> None:
    """Refuse options that leave each other nothing to say."""
    own = [name for name in ("ratio", "schedule") if getattr(options, name) is not None]
    own += ["ratio"] * ("ratio" in options.changes)
    for name in own + _idle(options.changes, options.changes.get("guidance_every", 1)):
        if options.dense:
            raise RequestError(f"dense and {name} contradict each other; give one of them")
    for name in own + ["dense"] * options.dense + ["paper mode"] * (options.mode == "paper"):
        if options.ras is not None:
            raise RequestError(f"ras and {name} contradict each other: all of ras is taken; give one of them")
    if options.shift is not None and isinstance(options.steps, Sequence | np.ndarray):
        raise RequestError("shift and times contradict each other: times are taken as they are; give one of them")
    if options.coarse is not None and options.coarse.factor > 1 and _paper(options):
        raise RequestError("paper mode and coarse contradict each other; give one of them")
    if _paper(options) and options.preset is not None:
        raise RequestError("paper mode and a preset contradict each other; give one of them")


def _used(options: Options, how: Preset) -> Preset:
    """The preset. Raises RequestError if nothing is left out in it, and options say what to do with that."""
    idle = _idle(options.changes, how.ras.guidance_every)
    ratios = how.ras.ratios(how.count)
    dense = how.ras.mode != "paper" and (ratios == 1 or (isinstance(ratios, list) and set(ratios) == {1}))
    if idle and dense and not how.ras.skip_every:
        raise RequestError(
            f"{idle[0]} is of steps that leave patches out, and here all are dense; give a ratio, or another preset"
        )
    return how


def _coarse(options: Options, base: Preset) -> Coarse | None:
    if options.coarse is None or options.coarse.factor > 1:
        return options.coarse or base.coarse
    if base.coarse is not None and options.steps is None:
        raise RequestError(f"preset {options.preset!r} has no steps from noise of its own; give steps without coarse")
    return None


def _steps(options: Options, base: Preset, shift: float) -> int | tuple[float, ...]:
    if options.steps is None and options.coarse is not None and base.coarse is None:
        return _after(options.coarse.until, base, shift)
    if options.steps is None:
        return base.steps if options.shift is None and options.coarse is None else base.count
    count = checked_count(options.steps)
    return tuple(float(t) for t in options.steps) if isinstance(options.steps, Sequence | np.ndarray) else count


def _after(start: float, base: Preset, shift: float) -> int:
    """How many steps a preset has after a time."""
    if isinstance(base.steps, int):
        return max(1, round(base.steps * (1 - unshifted(start, checked_shift(shift)))))
    return max(1, sum(t >= start for t in base.steps[:-1]))


def _shift(*said: float | None) -> float:
    """The first that was said."""
    return next(value for value in said if value is not None)


def _regions(options: Options, base: Preset, count: int) -> RasConfig:
    """The preset's regions in a run of `count` steps, with another ratio or schedule if there is one."""
    ras = base.ras if count == base.count or base.ras.mode == "paper" else resized(base.ras, base.count, count)
    if options.schedule is not None:
        skip, every = options.schedule
        ratio = ras.ratio if isinstance(ras.ratio, float | int | None) else 0.25
        ras = replace(ras, ratio=ratio, ratio_end=None, skip_step=skip, skip_every=every)
    return ras if options.ratio is None else with_ratio(ras, *options.ratio, count)


def changed(ras: RasConfig, changes: Mapping[str, Any], count: int) -> RasConfig:
    """Regions of `count` steps with other fields, see Options.changes."""
    changes = dict(changes)
    if not isinstance(changes.get("ratio", 1.0), float | int):
        first = next((i for i, share in enumerate(changes["ratio"]) if share < 1), count)
        ras = replace(ras, ratio_end=None, skip_step=0, skip_every=0, warmup=max(1, first), resets=(), end=None)
    elif not isinstance(ras.ratio, float | int):
        ratios = _opened(list(ras.ratio), changes)
        ras = replace(ras, ratio=ratios)
        if "ratio_end" in changes:
            first_ratio = next((ratio for ratio in ratios if ratio < 1), 1.0)
            ras = with_ratio(ras, first_ratio, changes.pop("ratio_end"), count)
    return replace(ras, **changes)


def _opened(ratios: list[float], changes: Mapping[str, Any]) -> list[float]:
    """A list of ratios with no more dense steps than a `warmup` and `resets` that are said leave to it."""
    first = next((i for i, ratio in enumerate(ratios) if ratio < 1), len(ratios))
    for i in range(max(changes.get("warmup", first), 0), first if first < len(ratios) else 0):
        ratios[i] = ratios[first]
    for i in range(first + 1, len(ratios) if "resets" in changes else 0):
        ratios[i] = ratios[i - 1] if ratios[i] == 1 else ratios[i]
    return ratios


def with_ratio(ras: RasConfig, ratio: float, ratio_end: float | None, steps: int) -> RasConfig:
    """The same plan with another ratio: what is dense stays dense, unless nothing else is."""
    if ras.mode == "paper" or ras.skip_every:
        return replace(ras, ratio=ratio, ratio_end=ratio_end)
    ratios = ras.ratios(steps)
    shares = [ratios] * steps if isinstance(ratios, float | int) else ratios
    sparse = [i for i, share in enumerate(shares) if share < 1 and i >= ras.warmup]
    if not sparse:
        return RasConfig(ratio=ratio, ratio_end=ratio_end, warmup=-(-2 * steps // 5), resets=(-1,))
    dense = {i for i, share in enumerate(shares) if share == 1 and i > sparse[0]}
    kept = () if ras.resets is None else ras.resets_of(steps)
    resets = ras.resets if not dense else tuple(sorted({*dense, *kept}))
    return replace(ras, ratio=ratio, ratio_end=ratio_end, warmup=sparse[0], resets=resets)


def resized(ras: RasConfig, steps: int, count: int) -> RasConfig:
    """Regions that were planned for `steps` steps, in a run of `count`: as large a part of it is dense at its start."""
    middles = [(i + 0.5) / count * steps - 0.5 for i in range(count)]
    places = [min(max(round(middle), 0), steps - 1) for middle in middles]
    if not isinstance(ras.forecast_kv, float | int):
        shares = list(ras.forecast_kv)
        ras = replace(ras, forecast_kv=[shares[place] for place in (*places[:-1], steps - 1)])
    if isinstance(ras.share, float | int):
        warmup = ras.warmup if ras.share == 1 else max(1, round(ras.warmup * count / steps))
        return replace(ras, warmup=warmup)
    ratios = list(ras.share)
    stretched = [ratios[place] for place in places]
    stretched[-1] = ratios[-1]
    stretched[0] = 1.0  # nothing is cached yet, in a single step too
    warmup = next((i for i, ratio in enumerate(stretched) if ratio < 1), count)
    return replace(ras, ratio=stretched, warmup=warmup)
