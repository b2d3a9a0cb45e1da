"""What is said while weights are written: how much of them is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable

SOONEST = 2.0
"""Seconds after which a rate is known well enough to speak of the rest."""


class Told:
    """Bytes done, of all, as a sentence for `say`. What was there before counts as done, not as fast."""

    def __init__(self, label: str, say: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self.label, self.say, self.now = label, say, now
        self.began: tuple[float, int] | None = None

    def __call__(self, done: int, whole: int) -> None:
        time_now = self.now()
        began, first = self.began = self.began or (time_now, done)
        took = time_now - began
        left = "" if took < SOONEST or done == first else f", {_span(took * (whole - done) / (done - first))} left"
        self.say(f"{self.label}, {done / 1e9:.2f} of {whole / 1e9:.2f} GB{left}")


def _span(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
