"""What can be refused before the work: an output that cannot be written, or that would replace another or an input."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from flagdit.files.errors import OutputError, refusals
from flagdit.files.lock import discard
from flagdit.files.part import create, sweep

PROBE = 1 << 16
"""Bytes that there has to be room for."""


def check_file(path: Path, suffixes: tuple[str, ...]) -> None:
    """Raise OutputError now, rather than after a minute of work, if a file cannot be written later.

    Removes what killed writers left in its folder.
    """
    if path.suffix.lower() not in suffixes:
        found = f"the name ends in {path.suffix!r}" if path.suffix else "the name says no type"
        raise OutputError(f"{path}: {found}; allowed are {', '.join(suffixes)}")
    with refusals(path):
        folder = path.parent
        if not folder.is_dir():
            raise OutputError(f"{path}: there is no folder {folder}; make it first: mkdir -p {folder}")
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is no file but a device or a pipe; give the name of a file")
        if _is_others(path):
            raise OutputError(f"{path}: belongs to another user, in a folder where only they may replace it")
        sweep(folder)
        probe(folder)


def probe(folder: Path) -> None:
    """Write and remove a file: asking for permission is not enough on every file system. Raises OSError."""
    handle, part = create(folder)
    try:
        if os.write(handle, bytes(PROBE)) < PROBE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        discard(handle, part)


def check_apart(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Raise OutputError if two outputs are one file, or one of them a folder of the other, or an output is an input.

    Keys are what a user calls them, such as --map; None is one that was not asked for.
    """
    given = {what: path for what, path in outputs.items() if path is not None}
    for (one, path), (other, again) in combinations(given.items(), 2):
        if _same(path, again):
            raise OutputError(f"{other} {again}: is also what {one} writes; give each a file of its own")
        if _entry(path) in _entry(again).parents and not path.is_dir():
            raise OutputError(f"{other} {again}: lies in {path}, which {one} makes a file of; give another path")
    for what, path in given.items():
        for source, read in inputs.items():
            if read is not None and _same(path, read):
                raise OutputError(f"{what} {path}: is {source}, which is read; give another path")


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one file, now or once they are written: by name, by links, or by the file itself."""
    if _entry(one) == _entry(other) or os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except OSError:
        return False


def _entry(path: Path) -> Path:
    """Where a path's name is, whatever a link of that name says."""
    return Path(os.path.realpath(path.parent)) / path.name


def _is_others(path: Path) -> bool:
    """Whether a file is another user's in a folder such as /tmp, where each may replace only their own."""
    if sys.platform == "win32" or not os.path.lexists(path):
        return False
    folder = path.parent.stat()
    return bool(folder.st_mode & stat.S_ISVTX) and os.geteuid() not in (0, folder.st_uid, path.lstat().st_uid)
