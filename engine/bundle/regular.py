"""Files that somebody else may have written: opened once, regular, and bounded before they are read.

Those of a bundle are read by the core; these are what one is made of.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from io import BufferedReader
from operator import or_
from pathlib import Path

from flagdit.engine.bundle.manifest import File
from flagdit.engine.errors import BackendError, BundleError

BLOCK = 1 << 20
MAX_GRAPH_BYTES = (1 << 31) - 1
"""Of an ONNX file: what protobuf allows of one message."""
OPENED = ("O_RDONLY", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")


@contextmanager
def opened(path: Path, follow: bool = True) -> Iterator[BufferedReader]:
    """A regular file to read. Raises BundleError if it is none: a pipe would wait, a device never end.

    follow: whether it may be a link. What a link leads to is somebody's own file, and only a digest known beforehand
    says that it is the one that is meant.
    """
    try:
        descriptor = os.open(path, _flags(*OPENED, *(() if follow else ("O_NOFOLLOW",))))
    except OSError as error:
        if not follow and path.is_symlink():
            raise BundleError(f"{path}: is a link, whose target is not copied; put the file itself there") from None
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BundleError(f"{path}: is no regular file; only such are read")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read(path: Path, limit: int) -> bytes:
    """All bytes of a file. Raises BundleError if it cannot be read, is no regular file, or is larger than `limit`."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > limit else _read(path, file, limit + 1)
    if max(size, len(content)) > limit:
        raise BundleError(f"{path}: larger than {limit} bytes, so this is no {path.name}")
    return content


def check_same(path: Path, found: File, expected: File) -> None:
    """Raise BundleError, by its path, unless a file is what is expected."""
    if found != expected:
        raise BundleError(f"{path}: damaged, its SHA-256 is not the manifest's; copy it again, or rebuild")


def digest(path: Path) -> File:
    """Size and SHA-256 of a regular file. Raises BundleError if it is none."""
    with opened(path) as file:
        return _digest(path, file)


def copy(source: Path, target: Path, follow: bool) -> File:
    """Copy a regular file to a name that is not taken; returns what was copied. See `opened` for `follow`.

    Raises BundleError if it cannot be read, OSError if it cannot be written.
    """
    with opened(source, follow) as file, target.open("xb") as out:
        return _digest(source, file, out.write)


def _flags(*names: str) -> int:
    """Of os.open, as far as the system has them."""
    return reduce(or_, (getattr(os, name, 0) for name in names))


def _digest(path: Path, file: BufferedReader, write: Callable[[bytes], object] = len) -> File:
    sha256, size = hashlib.sha256(), 0
    while block := _read(path, file, BLOCK):
        sha256.update(block)
        write(block)
        size += len(block)
    return File(sha256=sha256.hexdigest(), bytes=size)


def _read(path: Path, file: BufferedReader, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
    except MemoryError:
        raise BackendError(f"{path}: there is no memory for {size} bytes of it") from None
