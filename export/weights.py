"""Weights from file to file: a piece at a time, in the type to store, digested while they are written.

The file is laid out as the safetensors library does it, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flagdit.export.errors import CheckpointError
from flagdit.export.parts.layers import TimestepEmbedder
from flagdit.export.storage import STORAGE, check_stored, is_per_token, quantise
from flagdit.export.tensors import SCALE, Shape, Shapes, Tensors

PIECE = 1 << 22
"""Numbers that are in memory at a time: 16 MiB in fp32."""

NAMES = {
    torch.int64: "I64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int8: "I8",
}
ORDER = {kind: place for place, kind in enumerate(NAMES)}


@dataclass(frozen=True)
class Take:
    """Where a tensor of a model is in a checkpoint.

    rows: those of the first axis that are it. shape: in the checkpoint, where it is another. change: what makes it of
    that. twins: tensors of which the checkpoint holds the same again. made: the tensor itself, of which a checkpoint
    knows nothing.
    """

    name: str
    rows: tuple[int, int] | None = None
    shape: Shape | None = None
    change: Callable[[Tensor], Tensor] | None = None
    twins: tuple[str, ...] = ()
    made: Tensor | None = None


def frequencies() -> Take:
    """Those of a time's sinusoid, as torch makes them on a CPU."""
    return Take("", made=TimestepEmbedder.made(torch.device("cpu")))


def expected(takes: Mapping[str, Take], shapes: Shapes) -> dict[str, Shape]:
    """The shapes that a checkpoint has to have, by those of the model."""
    found: dict[str, Shape] = {}
    for name, take in takes.items():
        if take.made is not None:
            continue
        shape = take.shape or shapes[name]
        if take.rows is not None:
            shape = (max(take.rows[1], found.get(take.name, (0,))[0]), *shape[1:])
        found |= dict.fromkeys((take.name, *take.twins), shape)
    return found


def write_weights(
    path: Path,
    shapes: Shapes,
    takes: Mapping[str, Take],
    tensors: Tensors,
    dtype: str,
    *,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> str:
    """Write the tensors of these shapes, and return the digest of the file.

    progress: bytes written, and bytes in all. Raises ExportError if a number is none in the type to store, and
    CheckpointError if tensors that have to be the same are not.
    """
    entries = sorted(_entries(shapes, takes, dtype), key=lambda entry: (ORDER[entry[1]], entry[0]))
    header, end = {}, 0
    for name, kind, shape in entries:
        begin, end = end, end + kind.itemsize * torch.Size(shape).numel()
        header[name] = {"dtype": NAMES[kind], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest, done = hashlib.sha256(), 0
    with path.open("wb") as file:
        head = struct.pack("<Q", len(text)) + text
        file.write(head)
        digest.update(head)
        for piece in (piece for name, kind, _ in entries for piece in _pieces(name, kind, takes, tensors, dtype)):
            data = piece.contiguous().flatten().view(torch.uint8).numpy().data
            file.write(data)
            digest.update(data)
            done += data.nbytes
            progress(done, end)
    return digest.hexdigest()


def _entries(shapes: Shapes, takes: Mapping[str, Take], dtype: str) -> Iterator[tuple[str, torch.dtype, Shape]]:
    for name, shape in shapes.items():
        made = takes[name].made
        if made is not None:  # it is no weight that could be narrower
            yield name, made.dtype, shape
        elif dtype == "int8" and is_per_token(name):
            yield name, torch.int8, shape
            yield name + SCALE, torch.float32, (shape[0], 1)
        else:
            yield name, STORAGE[dtype] if len(shape) > 1 else torch.float32, shape


def _pieces(name: str, kind: torch.dtype, takes: Mapping[str, Take], tensors: Tensors, dtype: str) -> Iterator[Tensor]:
    """What is stored of a tensor, in rows that are few enough."""
    own = name.removesuffix(SCALE) if name not in takes else name
    for wide in _read(takes[own], tensors):
        stored = quantise(wide)[own != name] if kind == torch.int8 or own != name else wide.to(kind)
        check_stored({name: wide}, {name: stored}, dtype)
        yield stored


def _read(take: Take, tensors: Tensors) -> Iterator[Tensor]:
    if take.made is not None:
        yield take.made
        return
    shape = tensors.shapes[take.name]
    first, last = take.rows or (0, shape[0] if shape else 1)
    if take.change is not None:
        yield take.change(tensors.read(take.name, take.rows))
        return
    if len(shape) < 2:
        whole = tensors.read(take.name, take.rows)
        _same(whole, take, tensors, take.rows)
        yield whole
        return
    step = max(1, PIECE // max(1, torch.Size(shape[1:]).numel()))
    for row in range(first, last, step):
        rows = row, min(row + step, last)
        piece = tensors.read(take.name, rows)
        _same(piece, take, tensors, rows)
        yield piece


def _same(piece: Tensor, take: Take, tensors: Tensors, rows: tuple[int, int] | None) -> None:
    for twin in take.twins:
        if not torch.equal(tensors.read(twin, rows), piece):
            raise CheckpointError(
                f"{twin} is not {take.name}, which it has to be in this family: the checkpoint is damaged, or another's"
            )
