"""What was said of how to sample, a preset, and the model's defaults: where they meet is the core (resolve.h)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from flagdit import cpp_ext
from flagdit.engine.coarse import Coarse
from flagdit.engine.errors import RequestError
from flagdit.engine.presets import PRESETS, Preset
from flagdit.engine.ras import RasConfig, Solver


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
        return cpp_ext.begins_with(self)


def resolve(options: Options, presets: Mapping[str, Preset] = PRESETS, shift: float = 1.0) -> Preset:
    """How a run is sampled, with nothing left open; `shift` is the model's own.

    Raises RequestError if options contradict each other, name no preset, say what is of another type, or a number of
    steps, or a shift that it has to count with, that is out of bounds; all other bounds are the plan's to check.
    """
    if not isinstance(options.ras, RasConfig | None):
        raise RequestError(f"ras is of type {type(options.ras).__name__}; allowed is RasConfig(...)")
    how = Preset.of(cpp_ext.resolve(options, dict(presets), shift))
    return how if options.ras is None or options.changes else replace(how, ras=options.ras)
