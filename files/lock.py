"""Locks that end with the process that holds them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flagdit.files.errors import OutputError, refusals

if sys.platform != "win32":
    import fcntl

LOCK = ".flagdit.lock"
"""In a folder that is being written. Nothing is ever written into it, so a planted link does no harm."""
PAUSE = 0.05
"""Seconds between two tries."""


def hold(handle: int) -> bool | None:
    """Lock an open file for as long as it is open: False if another has it, None if this file system has no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def discard(handle: int, path: Path) -> None:
    """Remove a file that is open, and close it. Raises OSError if it stays; closed it is in any case.

    Removed first, while it is locked, so that none removes another's; but Windows removes no open file.
    """
    if sys.platform == "win32":
        os.close(handle)
        path.unlink(missing_ok=True)
        return
    try:
        path.unlink(missing_ok=True)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[bool | None]:
    """Be the only one that writes a folder, which is made if need be; readers are not held up. Gives what `hold` says.

    patience: seconds to wait for another. Raises OutputError if another process has it longer than that, or if the
    folder cannot be written. On a file system without locks everyone gets in, with None.
    """
    path = folder / LOCK
    handle, free = _take(folder, path, time.monotonic() + patience)
    try:
        yield free
    finally:
        with suppress(OSError):
            discard(handle, path)


def _take(folder: Path, path: Path, until: float) -> tuple[int, bool | None]:
    while True:
        with refusals(folder):
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        free = hold(handle)
        if free is False:
            os.close(handle)
            if time.monotonic() >= until:
                raise OutputError(
                    f"{folder}: another flagdit is writing it; wait until it ends, or choose another folder"
                )
            time.sleep(PAUSE)
        elif _is(handle, path):
            return handle, free
        else:
            os.close(handle)  # who had it removed it before this one was locked


def _is(handle: int, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
