"""Cached keys and values of one engine call, forecast to the time at which it reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flagdit.cpp_ext import CacheForecast
from flagdit.engine.layout import FloatArray
from flagdit.engine.session import Array, empty, zeros

BITS = {"float32": "float32", "float16": "float16", "uint16": "bfloat16"}
"""What arrays of a dtype hold (session.DTYPES), by the names of the core."""

Pairs = tuple[Array, Array]
"""Swaps (B, N, 2) and counts (B,), as from `select`."""


class ForecastCaches:
    """What a run remembers of the keys and values that one call of the engine writes and reads.

    The engine's arrays are made anew for every evaluation, from the last computed values (`anchors`), so errors of
    forecasts do not add up. A line needs two: until there are, a token keeps what it has.
    """

    def __init__(self, caches: Sequence[Array], samples: int) -> None:
        """caches: keys and values of all layers, (N, R, G, d), which the engine binds; B samples."""
        self.anchors = [empty(cache.shape, cache.dtype) for cache in caches]
        self.slopes = [zeros(cache.shape, np.uint16) for cache in caches]
        self.anchored: FloatArray = np.full((len(caches[0]), samples), -np.inf, np.float32)
        kind = BITS[caches[0].dtype.name]
        self._core = CacheForecast(caches, self.anchors, self.slopes, self.anchored, samples, kind)
        self._fresh, self._time = 0, 0.0

    def computed(self, active: int, t: float) -> None:
        """The engine wrote the first `active` slots at time t; of several times since a move, the last counts."""
        self._fresh, self._time = active, t

    def move(self, pairs: Pairs, active: int, target: float, damping: float) -> None:
        """Exchange swapped tokens, and forecast those behind the `active` slots, which are computed at `target`."""
        self._core.move(*pairs, self._take_fresh(), self._time, active, target, damping)

    def keep(self, pairs: Pairs) -> None:
        """Exchange swapped tokens, before a step that does not make this call."""
        self._core.move(*pairs, self._take_fresh(), self._time, 0, 0.0, 0.0, tail=False)

    def retarget(self, active: int, target: float, damping: float) -> None:
        """Forecast the tail to another time, between two evaluations of one step."""
        self._core.move(None, None, 0, 0.0, active, target, damping)

    def remember(self) -> None:
        """Keep the last values and their time, before a dense step writes over all of them."""
        self._core.move(None, None, self._take_fresh(), self._time, len(self.anchored), 0.0, 0.0)

    def _take_fresh(self) -> int:
        fresh, self._fresh = self._fresh, 0
        return fresh
