"""RoPE written a second time, by the standard library's mathematics, a number at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def rope(
    positions: Iterable[int], head: int, theta: float = 10000.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """cos and sin (N, d/2) of 1-D positions (N,), for heads of size d; theta holds the NTK factor."""
    angles = [[p / math.exp(2 * i / head * math.log(theta)) for i in range(head // 2)] for p in map(int, positions)]
    cos, sin = ([[wave(a) for a in row] for row in angles] for wave in (math.cos, math.sin))
    return np.array(cos, np.float64).astype(np.float32), np.array(sin, np.float64).astype(np.float32)
