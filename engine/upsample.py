"""Pictures, larger."""

from __future__ import annotations

import numpy as np

from flagdit.engine.layout import FloatArray

REACH = 2  # source values to either side that a cubic sees


def upsample(images: FloatArray, factor: int) -> FloatArray:
    """Images (B, C, H, W) at `factor` times their height and width, by Catmull-Rom's cubics (Keys 1981, a = -1/2).

    Weights beyond the border are left out and the others scaled to sum to 1, as in Pillow. Sums are made in one order,
    whatever the batch, so that a picture of a batch is the one that would be made alone.
    """
    return _along(_along(images, factor, 2), factor, 3) if factor > 1 else images


def _along(images: FloatArray, factor: int, axis: int) -> FloatArray:
    source = np.moveaxis(images, axis, -1)
    n = source.shape[-1]
    out = np.zeros((*source.shape, factor), np.float32)
    for phase in range(factor):
        centre, total = (phase + 0.5) / factor - 0.5, np.zeros(n, np.float32)
        for tap in range(-REACH, REACH + 1):
            weight = np.float32(_cubic(tap - centre))
            here, there = slice(max(-tap, 0), max(n - max(tap, 0), 0)), slice(max(tap, 0), max(n + min(tap, 0), 0))
            out[..., here, phase] += weight * source[..., there]
            total[here] += weight
        out[..., phase] /= total
    return np.ascontiguousarray(np.moveaxis(out.reshape(*source.shape[:-1], n * factor), -1, axis))


def _cubic(x: float) -> float:
    x = abs(x)
    if x >= 2:
        return 0.0
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
