"""The noise of a seed, written a second time in NumPy from docs/contract.md; shares nothing with the core."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

WORD = 0xFFFFFFFF


def words(seed: int, places: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The first two words of Philox 4x32-10 with offset 0, at the subsequences `places`."""
    zero = np.zeros_like(places)
    a, b, c, d = zero, zero, places & WORD, places >> 32
    for i in range(10):
        keys = ((seed & WORD) + i * 0x9E3779B9) & WORD, ((seed >> 32) + i * 0xBB67AE85) & WORD
        first, second = a * 0xD2511F53, c * 0xCD9E8D57
        a, b = (second >> 32) ^ b ^ keys[0], second & WORD
        c, d = (first >> 32) ^ d ^ keys[1], first & WORD
    return a, b


def noise_of(seed: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """What a picture with that seed starts from, by Box and Muller in double."""
    a, b = words(seed, np.arange(math.prod(shape), dtype=np.uint64))
    u, v = a / 2**32 + 2**-33, (b / 2**32 + 2**-33) * 2 * math.pi
    return (np.sqrt(-2 * np.log(u)) * np.sin(v)).astype(np.float32).reshape(shape)
