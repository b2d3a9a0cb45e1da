"""What a run keeps of its past."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keeps:
    """What a run remembers of every token besides its last velocity."""

    rate: bool  # when that was computed, and how far it was off: two numbers
    slope: bool  # how it changed: as many values as the velocity
    curve: bool  # how the slope changed: as many again, and a number
    difference: bool = False  # of guidance, for steps that reuse it: as many values as the velocity
    cache_slope: bool = False  # how keys and values changed, and the last computed ones: as many values each
