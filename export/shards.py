"""Shards of tensor parallelism, as the official code of Lumina-T2X saves them, read as one set of tensors.

Its layers are fairscale's: a column-parallel layer has rows of its matrix in every shard and its bias with them, a
row-parallel one columns, and all of its bias. An embedding is split by width. Norms of queries and keys, and gates, are
those of a shard's heads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from flagdit.export.errors import CheckpointError
from flagdit.export.tensors import Filed, Shapes

NAME = re.compile(r"consolidated(_ema)?\.(\d+)-of-(\d+)\.safetensors")

ROWS = re.compile(
    r"(x_embedder|t_embedder\.mlp\.0|cap_embedder\.1|final_layer\.linear|(.*\.)?adaLN_modulation\.1)\.(weight|bias)"
    r"|layers\.\d+\.(attention\.w([qkv]|[kv]_y)\.weight|feed_forward\.w[13]\.weight)"
    r"|layers\.\d+\.attention\.(gate|(q|k|ky)_norm\.(weight|bias))"
)
"""Tensors whose first axis is split."""

COLUMNS = re.compile(
    r"t_embedder\.mlp\.2\.weight|y_embedder\.embedding_table\.weight|layers\.\d+\.(attention\.wo|feed_forward\.w2)\.weight"
)
"""Tensors whose second axis is split."""

WHOLE = re.compile(
    r"t_embedder\.mlp\.2\.bias|(pad|eol)_token|cap_embedder\.0\.(weight|bias)"
    r"|layers\.\d+\.(attention|ffn|attention_y)_norm\d?\.weight"
)
"""Tensors that every shard holds alike."""


@dataclass(frozen=True)
class Release:
    """The files of one set of weights, in their order. ema: whether they are the average of the training's weights."""

    files: tuple[Path, ...]
    ema: bool


def find_release(path: Path, ema: bool | None) -> Release | None:
    """The shards that a directory holds, or that a file is one of; none if it is no official release.

    ema: which weights are wanted; none takes the average if it is there, as the official programs do. Raises
    CheckpointError if a shard is missing, there are none of the wanted weights, or sets of several numbers of shards.
    """
    named = NAME.fullmatch(path.name) if path.is_file() else None
    folder = path.parent if named else path
    sets: dict[tuple[bool, int], dict[int, Path]] = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        if found := NAME.fullmatch(file.name):
            sets.setdefault((found[1] is not None, int(found[3])), {})[int(found[2])] = file
    if named:
        own = named[1] is not None
        if ema not in (None, own):
            raise CheckpointError(f"{path}: is {_kind(own)}, and {_kind(not own)} was asked for; give that file")
        return _whole(folder, (own, int(named[3])), sets)
    if not sets:
        return None
    kinds = {kind for kind, _ in sets}
    wanted = (True in kinds) if ema is None else ema
    if wanted not in kinds:
        raise CheckpointError(
            f"{path}: holds no {_kind(wanted)}, only {_kind(not wanted)}; leave out --{'' if wanted else 'no-'}ema"
        )
    numbers = sorted(number for kind, number in sets if kind == wanted)
    if len(numbers) > 1:
        raise CheckpointError(f"{path}: holds sets of {' and '.join(map(str, numbers))} shards; give a file of one")
    return _whole(folder, (wanted, numbers[0]), sets)


def _kind(ema: bool) -> str:
    return "consolidated_ema files" if ema else "consolidated files without _ema"


def _whole(folder: Path, key: tuple[bool, int], sets: dict[tuple[bool, int], dict[int, Path]]) -> Release:
    ema, number = key
    missing = [rank for rank in range(number) if rank not in sets[key]]
    if missing or number == 0:
        stem = f"consolidated{'_ema' if ema else ''}"
        names = ", ".join(f"{stem}.{rank:02d}-of-{number:02d}.safetensors" for rank in missing[:3])
        raise CheckpointError(f"{folder}: {names or 'all'} missing of {number} shards; get them again")
    return Release(tuple(sets[key][rank] for rank in range(number)), ema)


@dataclass(frozen=True)
class Sharded:
    """Tensors of several shards. Raises CheckpointError where the shards are not of one model."""

    shards: tuple[Filed, ...]
    files: tuple[Path, ...]

    @classmethod
    def open(cls, files: tuple[Path, ...]) -> Sharded:
        """Read the headers, and check that all shards hold the same names and shapes."""
        shards = tuple(Filed.open(file) for file in files)
        first = shards[0].shapes
        for file, shard in zip(files[1:], shards[1:], strict=True):
            shapes = shard.shapes
            if shapes.keys() != first.keys():
                odd = sorted(shapes.keys() ^ first.keys())[0]
                raise CheckpointError(f"{file}: {odd} is in one of it and {files[0].name}; shards of two models")
            for name, shape in shapes.items():
                if shape != first[name]:
                    raise CheckpointError(
                        f"{file}: {name} is {shape}, in {files[0].name} {first[name]}; shards have one shape"
                    )
        for name, shape in first.items():
            if _axis(name, files[0]) is not None and len(shape) <= (_axis(name, files[0]) or 0):
                raise CheckpointError(f"{files[0]}: {name} is {shape}, which is not split over shards")
        return cls(shards, files)

    @cached_property
    def shapes(self) -> Shapes:
        return {name: self._joined(name, shape) for name, shape in self.shards[0].shapes.items()}

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Tensor:
        axis = _axis(name, self.files[0])
        if axis is None:
            return self._same(name, rows)
        if axis == 1:
            return torch.cat([shard.read(name, rows) for shard in self.shards], 1)
        size = self.shards[0].shapes[name][0]
        first, last = rows or (0, size * len(self.shards))
        parts = []
        for rank, shard in enumerate(self.shards):
            low, high = max(first - rank * size, 0), min(last - rank * size, size)
            if low < high:
                parts.append(shard.read(name, (low, high)))
        return torch.cat(parts) if parts else self.shards[0].read(name, (0, 0))

    def _joined(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        axis = _axis(name, self.files[0])
        return tuple(size * len(self.shards) if place == axis else size for place, size in enumerate(shape))

    def _same(self, name: str, rows: tuple[int, int] | None) -> Tensor:
        tensor = self.shards[0].read(name, rows)
        for file, shard in zip(self.files[1:], self.shards[1:], strict=True):
            if not torch.equal(shard.read(name, rows), tensor):
                raise CheckpointError(
                    f"{file}: {name} is not that of {self.files[0].name}, which it has to be; shards of two models"
                )
        return tensor


def _axis(name: str, file: Path) -> int | None:
    """The axis that a tensor is split by, none if every shard holds all of it."""
    if ROWS.fullmatch(name):
        return 0
    if COLUMNS.fullmatch(name):
        return 1
    if WHOLE.fullmatch(name):
        return None
    raise CheckpointError(
        f"{file}: nobody knows how {name} is split over shards; exported from several are Flag-DiT and Next-DiT"
    )
