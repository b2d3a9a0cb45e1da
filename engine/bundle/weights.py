"""The weights of a model as a safetensors file holds them: whether all of them are numbers, also in half precision."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flagdit.engine.bundle.json_file import parse_json
from flagdit.engine.bundle.regular import opened
from flagdit.engine.errors import BuildError, BundleError

MAX_HEADER = 100 << 20
"""Bytes, as safetensors itself has it."""
BLOCK = 1 << 22
"""Values that are looked at together."""
TYPES: dict[str, npt.DTypeLike] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I8": np.int8}
FLOAT16_END = 65504.0
SCALE = ".scale"
"""What is behind the name of an int8 matrix in the name of its scales."""


@dataclass(frozen=True)
class Weight:
    """A tensor of the file: its type there, where its values begin, and how many there are."""

    name: str
    dtype: str
    offset: int
    count: int


def check_weights(path: Path, precision: str = "float32") -> None:
    """Raise BuildError, with the tensor's name, if a weight is no number, or none in the precision of an engine.

    Such a model paints black pictures. Reads the file once, in blocks. Raises BundleError if it is no safetensors file.
    """
    for weight in read_header(path):
        most = largest(path, weight)
        if not math.isfinite(most):
            raise BuildError(
                f"{path.name}: {weight.name} holds NaNs or infinities; export the model again with --dtype float32 "
                "or bfloat16"
            )
        widened = 127 * most if weight.name.endswith(SCALE) else most
        if precision == "float16" and widened > FLOAT16_END:
            raise BuildError(
                f"{path.name}: {weight.name} has values up to {widened:.6g}, and float16 ends at {FLOAT16_END:g}; "
                "build with --precision bfloat16 or float32"
            )


def read_header(path: Path) -> list[Weight]:
    """All tensors. Raises BundleError if the file is no safetensors file."""
    with opened(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if length > min(MAX_HEADER, size - 8):
            raise BundleError(f"{path}: no safetensors file; export the model again")
        header = parse_json(file.read(length), path)
    try:
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return [_weight(name, entry, 8 + length, size=size) for name, entry in entries.items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: no safetensors file ({error}); export the model again") from None


def _weight(name: str, entry: dict[str, Any], start: int, *, size: int) -> Weight:
    dtype, begin, end = str(entry["dtype"]), *map(int, entry["data_offsets"])
    width = np.dtype(TYPES[dtype]).itemsize
    if not 0 <= begin <= end <= size - start or (end - begin) % width:
        raise ValueError(f"{name} lies outside of it")
    return Weight(name, dtype, start + begin, (end - begin) // width)


def largest(path: Path, weight: Weight) -> float:
    """The largest magnitude; NaN or infinity if there is one. int8 has only numbers, and is not read."""
    if weight.dtype == "I8":
        return 127.0
    return max((_most(block, weight.dtype) for block in _blocks(path, weight)), default=0.0, key=_rank)


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _most(block: npt.NDArray[np.generic], dtype: str) -> float:
    wide = (block.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else block
    return float(np.abs(wide).max())


def _blocks(path: Path, weight: Weight) -> Iterator[npt.NDArray[np.generic]]:
    kind = np.dtype(TYPES[weight.dtype])
    with opened(path) as file:
        for first in range(0, weight.count, BLOCK):
            file.seek(weight.offset + first * kind.itemsize)
            count = min(BLOCK, weight.count - first)
            yield np.frombuffer(file.read(count * kind.itemsize), kind)
