"""Files that somebody else may have written: opened once, regular, and bounded before they are read."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from io import BufferedReader
from operator import or_
from pathlib import Path

from flagdit.cpp_ext import FileRecord
from flagdit.engine.bundle.manifest import File
from flagdit.engine.errors import BackendError, BundleError

BLOCK = 1 << 20
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


def verified(path: Path, expected: File, limit: int | None = None) -> memoryview:
    """The bytes of a file, in memory of this process: whatever becomes of the file, they stay what was verified.

    A file that was found right before, and has not changed since, is read and not hashed (flagdit/file_record.h).
    Raises BundleError if they are not what is expected, or more than `limit`; BackendError if there is no memory.
    """
    if limit is not None and expected.bytes > limit:
        raise BundleError(f"{path}: {expected.bytes} bytes; allowed are {limit}")
    with opened(path) as file:
        _check_size(path, file, expected)
        record = FileRecord(file.fileno())
        known = record.holds(expected.sha256)
        content = _held(path, file, expected.bytes)
        if not (known and record.unchanged()):
            check_same(path, File(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)), expected)
            record.keep(expected.sha256)
    return content.toreadonly()


def known_parts(path: Path, expected: File, parts: Iterable[tuple[int, int]]) -> memoryview | None:
    """Those parts of a file that is known to be what is expected; the rest of it is zeros that take no memory.

    None if it is not known: without all of it there is no telling. parts: offset and length, within the file; they may
    overlap. Raises as `verified` does.
    """
    with opened(path) as file:
        _check_size(path, file, expected)
        record = FileRecord(file.fileno())
        if not record.holds(expected.sha256):
            return None
        content, at = _pages(path, expected.bytes), 0
        for offset, length in sorted(parts):
            first, end = max(at, offset), offset + length
            if first < end:
                file.seek(first)
                _fill(path, file, content[first:end])
                at = end
        return content.toreadonly() if record.unchanged() else None


def check(path: Path, expected: File) -> bool:
    """Raise BundleError unless the file is what is expected, to the last byte. Takes a megabyte of memory.

    Returns whether it was read: what was found right before, and has not changed since, is not read again.
    """
    with opened(path) as file:
        _check_size(path, file, expected)
        record = FileRecord(file.fileno())
        if record.holds(expected.sha256):
            return False
        check_same(path, _digest(path, file, limit=expected.bytes), expected)
        record.keep(expected.sha256)
    return True


def check_size(path: Path, expected: File) -> None:
    """Raise BundleError unless there is a regular file of the size that is expected. Reads nothing of it."""
    if not path.exists():
        raise BundleError(f"{path}: missing from the bundle; copy it again, or rebuild with flagdit build")
    with opened(path) as file:
        _check_size(path, file, expected)


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


def _digest(
    path: Path, file: BufferedReader, write: Callable[[bytes], object] = len, *, limit: int | None = None
) -> File:
    """Of a file, or of little more than `limit` bytes of it, since it may grow while it is read."""
    sha256, size = hashlib.sha256(), 0
    while (limit is None or size <= limit) and (block := _read(path, file, BLOCK)):
        sha256.update(block)
        write(block)
        size += len(block)
    return File(sha256=sha256.hexdigest(), bytes=size)


def _held(path: Path, file: BufferedReader, size: int) -> memoryview:
    """So many bytes, which are all of the file. Raises BundleError if there are fewer or more."""
    content = _pages(path, size)
    _fill(path, file, content)
    if _read(path, file, 1):
        raise BundleError(f"{path}: changed while it was read; try again")
    return content


def _pages(path: Path, size: int) -> memoryview:
    """Zeros, in pages of their own: the system has them back when they are dropped, as it has not from malloc."""
    try:
        return memoryview(mmap.mmap(-1, max(size, 1)))[:size]
    except (MemoryError, OSError) as error:
        raise BackendError(f"{path}: there is no memory for its {size} bytes ({error})") from None


def _fill(path: Path, file: BufferedReader, content: memoryview) -> None:
    try:
        whole = file.readinto(content) == len(content)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
    if not whole:
        raise BundleError(f"{path}: changed while it was read; try again")


def _read(path: Path, file: BufferedReader, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
    except MemoryError:
        raise BackendError(f"{path}: there is no memory for {size} bytes of it") from None


def _check_size(path: Path, file: BufferedReader, expected: File) -> None:
    size = os.fstat(file.fileno()).st_size
    if size != expected.bytes:
        raise BundleError(f"{path}: {size} bytes instead of {expected.bytes}; copy it again, or rebuild")
