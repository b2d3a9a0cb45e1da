"""Angles of rotary embeddings by axis, made in double and rounded once, so that no library decides a bit.

Letters: N tokens, d head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def axis_angles(positions: Tensor, size: int, theta: float | Tensor) -> Tensor:
    """Angles (..., size / 2) in double of positions (...) on one axis that has `size` channels of a head."""
    exponents = torch.arange(0, size, 2, dtype=torch.float64, device=positions.device) / size
    return positions.double()[..., None] * theta**-exponents


def turned(angles: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of angles in double, in fp32. ONNX Runtime 1.25 has a sine in double, and no cosine."""
    cos = 1 - 2 * (angles / 2).sin() ** 2
    return cos.float(), angles.sin().float()


def axes_rope(positions: Sequence[Tensor], sizes: Sequence[int], theta: float | Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin (..., d/2) of tokens by their positions (...) on each axis, one axis after the other in a head."""
    pairs = zip(positions, sizes, strict=True)
    return turned(torch.cat([axis_angles(position, size, theta) for position, size in pairs], -1))


def alternating_rope(line: Tensor, column: Tensor, size: int, theta: float | Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin (N, d/2) of lines and columns (N,), which take turns in a head: line, column, line, column."""
    both = torch.stack([axis_angles(place, size // 2, theta) for place in (line, column)], -1)
    return turned(both.flatten(1))
