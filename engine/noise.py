"""What pictures start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flagdit.cpp_ext import normal_noise
from flagdit.engine.layout import FloatArray

NOISE = "philox4x32-10, box-muller"
"""Name of the generator: pictures that are kept are found again only if they began with this noise."""


def latent_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> FloatArray:
    """Standard normal latents (B, *shape), a sample for each seed of 0 to 2^64 - 1, as docs/contract.md specifies.

    A sample depends on its own seed only, and is the same on every machine.
    """
    out = np.empty((len(seeds), *shape), np.float32)
    normal_noise(out.reshape(len(seeds), -1), seeds)
    return out
