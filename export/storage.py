"""How weights lie in a safetensors file: their types, and int8 with a scale an output.

Letters: N outputs, K inputs of a matrix.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from flagdit.export.errors import CheckpointError, ExportError
from flagdit.export.tensors import SCALE

STORAGE = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.float16}
"""Ways to store weights, and the type of the matrices that are not int8."""

PER_TOKEN = re.compile(
    r"(layers|noise_refiner|joint_blocks)\.\d+\.(\w+_block\.)?(attention2?\.w[qkvo]|feed_forward\.w[123])\.weight"
)
"""The matrices that every token goes through in every layer: those that int8 makes faster."""

SMALLEST = 1e-30
"""Magnitude that an output of zeros is taken for."""


def is_per_token(name: str) -> bool:
    """Whether a tensor is stored as int8 where int8 is asked for."""
    return PER_TOKEN.fullmatch(name) is not None


def store(state: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Matrices in the storage type; vectors (norms, biases, gates) in fp32, where rounding would show first."""
    stored = {}
    for name, tensor in state.items():
        if dtype == "int8" and PER_TOKEN.fullmatch(name):
            stored[name], stored[name + SCALE] = quantise(tensor)
        else:
            stored[name] = tensor.to(STORAGE[dtype] if tensor.dim() > 1 else torch.float32).contiguous()
    return stored


def check_stored(state: Mapping[str, Tensor], stored: Mapping[str, Tensor], dtype: str) -> None:
    """Raise ExportError if a stored value is no number, which would paint black pictures.

    It may be the type that has none for it: float16 ends at 65504. Raises CheckpointError if the checkpoint has none.
    """
    for name, tensor in state.items():
        if not _finite(tensor):
            raise CheckpointError(f"{name} holds NaNs or infinities: the checkpoint is damaged; get it again")
    for name, tensor in stored.items():
        if not _finite(tensor):
            most, end = state[name].abs().max().item(), torch.finfo(tensor.dtype).max
            kind = str(tensor.dtype).removeprefix("torch.")
            wider = " or ".join(
                d for d in STORAGE if d in ("bfloat16", "float32") and torch.finfo(STORAGE[d]).max > most
            )
            raise ExportError(
                f"{name} has values up to {most:.6g}, and {kind}, which --dtype {dtype} stores it in, ends at {end:.6g}"
                f"; export with --dtype {wider}"
            )


def _finite(tensor: Tensor) -> bool:
    """Whether all are: smallest and largest are not if one is not; 16 times as fast as looking at each."""
    return not tensor.numel() or all(map(math.isfinite, map(Tensor.item, torch.aminmax(tensor))))


def widen(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `store` stored, in fp32."""
    state = {name: tensor.float() for name, tensor in stored.items() if not name.endswith(SCALE)}
    for name in state:
        if name + SCALE in stored:
            state[name] *= stored[name + SCALE]
    return state


def quantise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """int8 in -127 to 127 and scales (N, 1) of a matrix (N, K); the largest magnitude of an output is 127."""
    scale = scales(matrix)
    return (matrix.float() / scale).round_().to(torch.int8), scale


def scales(matrix: Tensor) -> Tensor:
    """Those (N, 1) alone."""
    low, high = torch.aminmax(matrix, dim=1, keepdim=True)
    return torch.maximum(-low, high).float().clamp_min(SMALLEST) / 127
