"""Unfinished files: how they are called, whose they are, and who may remove them."""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from flagdit.files.lock import discard, hold

NAME = re.compile(r"\.flagdit-[0-9a-f]{16}\.part")
OLD = 24 * 3600
"""Seconds after which an unfinished file has no writer any more, where there are no locks to tell."""


def name() -> str:
    """A name for something unfinished that nobody can guess, short enough for any file system."""
    return f".flagdit-{secrets.token_hex(8)}.part"


def create(folder: Path) -> tuple[int, Path]:
    """A new file, open and locked for as long as it is: its descriptor and its path. Raises OSError."""
    while True:
        part = folder / name()
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if hold(handle) is not False and os.fstat(handle).st_nlink > 0:
            return handle, part
        os.close(handle)  # another's sweep was faster than the lock


def sweep(folder: Path) -> None:
    """Remove unfinished files of this user in a folder whose writers are gone; leave what cannot be removed."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _remove_if_left(path: Path) -> None:
    about = path.lstat()
    if not (stat.S_ISREG(about.st_mode) and is_mine(about)):
        return
    handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    if is_left(hold(handle), os.fstat(handle)):
        discard(handle, path)
    else:
        os.close(handle)


def is_mine(about: os.stat_result) -> bool:
    """Whether it belongs to the user that this process runs as."""
    return sys.platform == "win32" or about.st_uid == os.geteuid()


def is_left(free: bool | None, about: os.stat_result) -> bool:
    """Whether the writer of something unfinished is gone; free: what `hold` says of its lock."""
    return time.time() - about.st_mtime > OLD if free is None else free
