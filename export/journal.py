"""How far a file of weights was written, so that an export that is cut off goes on there.

A journal lies beside its file: what the file is made of, how many bytes of it are whole, and their digest. It is
written when those bytes are safely on the disk. What is made of another source, or in another way, begins anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from hashlib import _Hash

SUFFIX = ".journal"
EVERY = 1 << 28
"""Bytes that a killed export loses at most, and then those of one tensor."""
BLOCK = 1 << 22


def key_of(files: Iterable[Path], how: Mapping[str, Any]) -> str:
    """What a file of weights is made of: source files by path, size and time of their last change, and how."""
    sources = [(str(path.resolve()), about.st_size, about.st_mtime_ns) for path in files for about in [path.stat()]]
    return hashlib.sha256(json.dumps([sorted(sources), how], sort_keys=True).encode()).hexdigest()


@dataclass
class Journal:
    """Of the file `path`, made of what `key` says. noted: bytes that the journal knows of."""

    path: Path
    key: str
    noted: int = 0

    @property
    def own(self) -> Path:
        return self.path.with_name(self.path.name + SUFFIX)

    def whole(self) -> tuple[int, _Hash]:
        """How many bytes are there from an earlier export, and their digest so far; none if they are not the same."""
        digest = hashlib.sha256()
        try:
            said = json.loads(self.own.read_text())
            size, wanted = int(said["bytes"]), said["sha256"]
            if said["key"] != self.key or self.path.stat().st_size < size:
                return 0, hashlib.sha256()
            with self.path.open("rb") as file:
                for first in range(0, size, BLOCK):
                    digest.update(file.read(min(BLOCK, size - first)))
        except (OSError, ValueError, KeyError, TypeError):
            return 0, hashlib.sha256()
        if digest.hexdigest() != wanted:
            return 0, hashlib.sha256()
        self.noted = size
        return size, digest

    def note(self, file: BinaryIO, size: int, digest: _Hash) -> None:
        """Remember that the first `size` bytes are whole; they are on the disk before the journal says so."""
        file.flush()
        os.fsync(file.fileno())
        new = self.own.with_name(self.own.name + ".new")
        new.write_text(json.dumps({"key": self.key, "bytes": size, "sha256": digest.hexdigest()}))
        new.replace(self.own)
        self.noted = size


def tidy(folder: Path) -> None:
    """Remove what an export that was cut off left in its folder, but for what has a journal."""
    for path in folder.iterdir():
        if path.suffix != SUFFIX and not path.with_name(path.name + SUFFIX).exists():
            path.unlink()


def finish(folder: Path, said: object) -> None:
    """Remove journals, and what no value of `said`, the content of `model.json`, names."""
    named = set(_texts(said))
    for path in folder.iterdir():
        if path.suffix == SUFFIX or path.name not in named:
            path.unlink()


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
