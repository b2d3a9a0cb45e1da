"""Whether what a run computes are numbers still: a picture of infinities and NaNs would be black."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flagdit.engine.errors import NumberError
from flagdit.engine.session import Array


def broken(arrays: Mapping[str, Array]) -> str | None:
    """The first array that holds a NaN or an infinity, with how many it holds, as text; None if all are finite."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            return f"{name} has {int(np.count_nonzero(~np.isfinite(array)))} of {array.size} values that are not finite"
    return None


def check_finite(arrays: Mapping[str, Array], when: str, engine: str, precision: str) -> None:
    """Raise NumberError if an array holds a NaN or an infinity.

    when: at what point of the run. engine: the graph that made them, and what it runs in. precision: its own, which
    says what may help.
    """
    found = broken(arrays)
    if found is None:
        return
    advice = "export the model again with --dtype float32 (or bfloat16), then flagdit build"
    if precision != "float32":
        advice = f"try another engine with --precision float32; if that does not help, {advice}"
    raise NumberError(f"{when}: {found}, computed by {engine} in {precision}; {advice}")
