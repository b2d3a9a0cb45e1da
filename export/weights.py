"""Weights from file to file: a piece at a time, in the type to store, digested while they are written.

The file is laid out as the safetensors library does it, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor

from flagdit.export.blocks import Blocks
from flagdit.export.errors import CheckpointError
from flagdit.export.journal import EVERY, Journal, key_of
from flagdit.export.parts.layers import TimestepEmbedder
from flagdit.export.storage import STORAGE, check_stored, is_per_token, quantise, scales
from flagdit.export.tensors import SCALE, Shape, Shapes, Tensors

if TYPE_CHECKING:
    from hashlib import _Hash

PIECE = 1 << 22
"""Numbers that are in memory at a time: 16 MiB in fp32."""

NAMES = {
    torch.int64: "I64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int8: "I8",
    torch.uint8: "U8",
}
NO_BLOCKS: Mapping[str, Blocks] = MappingProxyType({})
ORDER = {kind: place for place, kind in enumerate(NAMES)}


@dataclass(frozen=True)
class Take:
    """Where a tensor of a model is in a checkpoint.

    rows: those of the first axis that are it. shape: in the checkpoint, where it is another. change: what makes it of
    that. twins: tensors of which the checkpoint holds the same again. made: the tensor itself, of which a checkpoint
    knows nothing. power: its numbers become 2^-power of what they are.
    """

    name: str
    rows: tuple[int, int] | None = None
    shape: Shape | None = None
    change: Callable[[Tensor], Tensor] | None = None
    twins: tuple[str, ...] = ()
    made: Tensor | None = None
    power: int = 0


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
    blocks: Mapping[str, Blocks] = NO_BLOCKS,
    progress: Callable[[int, int], None] = lambda done, all: None,
    resumable: bool = False,
) -> str:
    """Write the tensors of these shapes, and return the digest of the file.

    blocks: those that are stored so, whatever the dtype is of others.
    progress: bytes written, and bytes in all. resumable: whether a journal is kept beside the file, and an earlier
    export that was cut off is gone on with: no tensor that is whole is read again. Raises ExportError if a number is
    none in the type to store, and CheckpointError if tensors that have to be the same are not.
    """
    entries = sorted(_entries(shapes, takes, dtype, blocks=blocks), key=lambda entry: (ORDER[entry[1]], entry[0]))
    head, ends = _header(entries)
    journal = None
    if resumable and tensors.files:
        ways = {name: [t.name, t.rows, t.twins, t.change is not None, t.power] for name, t in takes.items()}
        how = {"head": hashlib.sha256(head).hexdigest(), "dtype": dtype, "takes": ways, "flagdit": version("flagdit")}
        journal = Journal(path, key_of(tensors.files, how))
    done, digest = journal.whole() if journal else (0, hashlib.sha256())
    with path.open("r+b" if done else "wb") as file:
        file.truncate(done)
        file.seek(done)
        if not done:
            file.write(head)
            digest.update(head)
        writing = _Writing(file, digest, journal, partial(_tell, progress, len(head), ends[-1]))
        for (name, kind, _), end in zip(entries, ends, strict=True):
            if end > done:
                own = name.removesuffix(SCALE) if name not in takes else name
                writing.tensor(_pieces(name, kind, takes, tensors, dtype=dtype, blocks=blocks.get(own)))
        writing.note()
    return digest.hexdigest()


def _tell(progress: Callable[[int, int], None], head: int, whole: int, done: int) -> None:
    progress(done - head, whole - head)


def _header(entries: Sequence[tuple[str, torch.dtype, Shape]]) -> tuple[bytes, list[int]]:
    """The file's beginning, and where in it each tensor ends."""
    header, end, ends = {}, 0, []
    for name, kind, shape in entries:
        begin, end = end, end + kind.itemsize * torch.Size(shape).numel()
        header[name] = {"dtype": NAMES[kind], "shape": list(shape), "data_offsets": [begin, end]}
        ends.append(end)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    head = struct.pack("<Q", len(text)) + text
    return head, [len(head) + end for end in ends]


class _Writing:
    """A file that is written and digested, tensor by tensor."""

    def __init__(self, file: BinaryIO, digest: _Hash, journal: Journal | None, progress: Callable[[int], None]) -> None:
        self.file, self.digest, self.journal, self.progress = file, digest, journal, progress
        self.whole, self.so_far = file.tell(), digest.copy()

    def tensor(self, pieces: Iterator[Tensor]) -> None:
        """Write one; what is whole is noted now and then, and when somebody stops the export."""
        try:
            for piece in pieces:
                data = piece.contiguous().flatten().view(torch.uint8).numpy().data
                self.file.write(data)
                self.digest.update(data)
                self.progress(self.file.tell())
        except BaseException as error:
            if not isinstance(error, Exception):
                self.note()
            raise
        self.whole, self.so_far = self.file.tell(), self.digest.copy()
        if self.journal is not None and self.whole - self.journal.noted >= EVERY:
            self.note()

    def note(self) -> None:
        if self.journal is not None:
            self.journal.note(self.file, self.whole, self.so_far)


def _entries(
    shapes: Shapes, takes: Mapping[str, Take], dtype: str, *, blocks: Mapping[str, Blocks]
) -> Iterator[tuple[str, torch.dtype, Shape]]:
    for name, shape in shapes.items():
        made = takes[name].made
        if made is not None:  # it is no weight that could be narrower
            yield name, made.dtype, shape
        elif name in blocks:
            yield name, blocks[name].dtype, blocks[name].codes_shape(shape)
            yield name + SCALE, torch.float32, blocks[name].scale_shape(shape)
        elif dtype == "int8" and is_per_token(name):
            yield name, torch.int8, shape
            yield name + SCALE, torch.float32, (shape[0], 1)
        else:
            yield name, STORAGE[dtype] if len(shape) > 1 else torch.float32, shape


def _pieces(
    name: str, kind: torch.dtype, takes: Mapping[str, Take], tensors: Tensors, *, dtype: str, blocks: Blocks | None
) -> Iterator[Tensor]:
    """What is stored of a tensor, in rows that are few enough."""
    own = name.removesuffix(SCALE) if name not in takes else name
    power = takes[own].power
    for read in pieces_of(takes[own], tensors):
        wide = read.float() if read.dtype.itemsize == 1 else read  # torch finds no ends of fp8, and -(-128) is no int8
        wide = wide.float() * 2.0**-power if power else wide
        if blocks is not None:
            check_stored({name: wide}, {}, dtype)
            stored = blocks.of(wide)[own != name]
        else:
            stored = scales(wide) if own != name else quantise(wide)[0] if kind == torch.int8 else wide.to(kind)
        check_stored({name: wide}, {name: stored}, dtype)
        yield stored


def pieces_of(take: Take, tensors: Tensors) -> Iterator[Tensor]:
    """A tensor of a model, in rows that are few enough; but for its power."""
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
