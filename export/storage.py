"""How weights lie in a safetensors file: their types, and int8 with a scale an output.

Letters: N outputs, K inputs of a matrix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

STORAGE = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.float16}
"""Ways to store weights, and the type of the matrices that are not int8."""

PER_TOKEN = re.compile(r"layers\.\d+\.(attention\.w[qkvo]|feed_forward\.w[123])\.weight")
"""The matrices that every token goes through in every layer: those that int8 makes faster."""

SCALE = ".scale"
"""The scales (N, 1) of an int8 matrix (N, K) are stored under its name and this."""

SMALLEST = 1e-30
"""Magnitude that an output of zeros is taken for."""


def store(state: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Matrices in the storage type; vectors (norms, biases, gates) in fp32, where rounding would show first."""
    stored = {}
    for name, tensor in state.items():
        if dtype == "int8" and PER_TOKEN.fullmatch(name):
            stored[name], stored[name + SCALE] = quantise(tensor)
        else:
            stored[name] = tensor.to(STORAGE[dtype] if tensor.dim() > 1 else torch.float32).contiguous()
    return stored


def widen(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `store` stored, in fp32."""
    state = {name: tensor.float() for name, tensor in stored.items() if not name.endswith(SCALE)}
    for name in state:
        if name + SCALE in stored:
            state[name] *= stored[name + SCALE]
    return state


def quantise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """int8 in -127 to 127 and scales (N, 1) of a matrix (N, K); the largest magnitude of an output is 127."""
    scale = matrix.float().abs().amax(1, keepdim=True).clamp_min(SMALLEST) / 127
    return (matrix.float() / scale).round().to(torch.int8), scale
