"""A file that is written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from flagdit.files.errors import OutputError, refusals
from flagdit.files.part import create

Bytes = bytes | bytearray | memoryview
UNSYNCED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""What file systems answer that keep nothing back."""


def write_file(path: Path, content: Bytes | str) -> None:
    """Give `path` this content, text in UTF-8. Whoever reads it has all of the old or of the new, also after a crash.

    A link at `path` is replaced, not followed; a file that is replaced keeps its permissions. Raises OutputError, and
    then what was there is unchanged, and nothing else is left; only if the finished file cannot take its name, it is
    kept under another, which the message says.
    """
    data = content.encode() if isinstance(content, str) else content
    with refusals(path):
        handle, part = create(path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                _keep_mode(handle, path)
                sync(handle)
                if sys.platform != "win32":  # where no open file changes its name
                    _take_name(part, path)
            if sys.platform == "win32":
                _take_name(part, path)
            sync_path(path.parent)
        finally:
            part.unlink(missing_ok=True)


def write_all(writes: Mapping[Path, Callable[[], None]]) -> None:
    """Call what writes each of these paths, those after a failure, too.

    Raises OutputError that names all which could not be written, and those that are there.
    """
    faults, written = [], []
    for path, write in writes.items():
        try:
            write()
            written.append(str(path))
        except OutputError as error:
            faults.append(str(error))
    if faults:
        raise OutputError("; ".join([*faults, *([f"{', '.join(written)} is written"] if written else [])]))


def sync(handle: int) -> None:
    """Wait until an open file, or a folder's names, are on the disk. Raises OSError."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise


def sync_path(path: Path) -> None:
    """As `sync`, of a file or a folder by its path; not on Windows, which syncs no folder and nothing that is read."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def spare(path: Path) -> Path:
    """A name beside `path` that says what it is, for what cannot have that one."""
    return path.with_name(f"{path.stem}-{secrets.token_hex(4)}{path.suffix}")


def _keep_mode(handle: int, path: Path) -> None:
    with suppress(OSError):
        old = path.lstat()
        if stat.S_ISREG(old.st_mode) and os.chmod in os.supports_fd:
            os.chmod(handle, stat.S_IMODE(old.st_mode) & 0o777)


def _take_name(part: Path, path: Path) -> None:
    try:
        part.replace(path)
    except OSError as error:
        kept = spare(path)
        part.replace(kept)
        raise OutputError(
            f"{path}: cannot be replaced ({error.strerror}); what it was to be is kept as {kept}"
        ) from None
