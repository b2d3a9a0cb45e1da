"""Whether values are numbers. The core checks those of a run (cpp_ext/src/run/numbers.cpp)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flagdit.engine.session import Array


def broken(arrays: Mapping[str, Array]) -> str | None:
    """The first array that holds a NaN or an infinity, with how many it holds, as text; None if all are finite."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            return f"{name} has {int(np.count_nonzero(~np.isfinite(array)))} of {array.size} values that are not finite"
    return None
