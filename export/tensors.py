"""Tensors of a checkpoint by name, read when they are asked for: plain reads, so that no file is mapped into memory."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from flagdit.export.errors import CheckpointError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

SCALE = ".scale"
"""The scales (N, 1) of an int8 matrix (N, K) are stored under its name and this."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
MOST_HEADER = 100_000_000  # bytes, as the safetensors library has it


class Tensors(Protocol):
    """What weights are taken from."""

    @property
    def shapes(self) -> Shapes: ...

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that they lie in; none if they are in memory."""
        ...

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Tensor:
        """A tensor in its own type, or rows [first, last) of it; int8 with scales in fp32."""
        ...


@dataclass(frozen=True)
class Held:
    """Tensors in memory."""

    state: Mapping[str, Tensor]
    files: tuple[Path, ...] = ()

    @property
    def shapes(self) -> Shapes:
        return {name: tuple(tensor.shape) for name, tensor in self.state.items()}

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Tensor:
        tensor = self.state[name].detach()
        return tensor if rows is None else tensor[rows[0] : rows[1]]


@dataclass(frozen=True)
class Slot:
    """Where a tensor lies."""

    path: Path
    dtype: torch.dtype
    shape: Shape
    offset: int

    @property
    def width(self) -> int:
        """Bytes of an entry of the first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


class Filed:
    """Tensors of safetensors files."""

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self.slots = slots

    @classmethod
    def open(cls, *paths: Path) -> Filed:
        """Read the headers. Raises CheckpointError if a file is none, or holds a name that another has."""
        slots: dict[str, Slot] = {}
        for path in paths:
            for name, slot in read_header(path):
                if name in slots:
                    raise CheckpointError(f"{path}: {name} is in {slots[name].path.name}, too; leave one of them out")
                slots[name] = slot
        return cls(slots)

    @property
    def shapes(self) -> Shapes:
        return {name: slot.shape for name, slot in self.slots.items() if not name.endswith(SCALE)}

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(slot.path for slot in self.slots.values()))

    def without(self, prefix: str) -> Filed:
        """Those whose name begins so, without it."""
        return Filed({name.removeprefix(prefix): s for name, s in self.slots.items() if name.startswith(prefix)})

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Tensor:
        tensor = self._read(name, rows)
        return tensor.float() * self._read(name + SCALE, rows) if name + SCALE in self.slots else tensor

    def _read(self, name: str, rows: tuple[int, int] | None) -> Tensor:
        slot = self.slots[name]
        first, last = rows if rows is not None and slot.shape else (0, slot.shape[0] if slot.shape else 1)
        data = bytearray((last - first) * slot.width)
        with slot.path.open("rb") as file:
            file.seek(slot.offset + first * slot.width)
            if file.readinto(data) != len(data):
                raise CheckpointError(f"{slot.path}: ends within {name}; get it again")
        shape = (last - first, *slot.shape[1:]) if slot.shape else ()
        if not data:
            return torch.empty(shape, dtype=slot.dtype)
        return torch.frombuffer(data, dtype=slot.dtype).reshape(shape)


def read_header(path: Path) -> Iterator[tuple[str, Slot]]:
    """Names and places of a safetensors file's tensors. Raises CheckpointError if it is none, or is cut."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > MOST_HEADER:
                raise ValueError("its header has no end")
            header: dict[str, Any] = json.loads(file.read(size))
        header.pop("__metadata__", None)
        ends = path.stat().st_size - 8 - size
        slots = []
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            slot = Slot(path, DTYPES[entry["dtype"]], tuple(entry["shape"]), 8 + size + begin)
            if not 0 <= begin <= end <= ends or end - begin != math.prod(slot.shape) * slot.dtype.itemsize:
                raise ValueError(f"{name} lies outside of it")
            slots.append((name, slot))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None
    yield from slots
