"""What TensorRT-RTX compiled for the GPU at hand, kept for the next process: a file of the user's cache.

It is code that the GPU will run. So it is read only if it is whole and this user's own, and made anew otherwise; that a
cache is missing or cannot be written is never an error.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from flagdit.cpp_ext import Gpu, records_folder
from flagdit.files import OutputError, write_file

MAGIC = b"flagdit tensorrt-rtx cache 1\n"
DIGEST = hashlib.sha256().digest_size
MOST_BYTES = 256 << 20
"""Of a file; what is larger is neither kept nor read."""
MOST_FILES = 16
"""The ones used last; an engine on a GPU has one."""
END = 1 << 20
"""Bytes of a plan's beginning and end that it is known by."""


class RuntimeCache:
    """That of one engine. Not for two threads at a time."""

    def __init__(self, config: Any, path: Path | None) -> None:
        """config: an IRuntimeConfig, which gets it. path: None keeps nothing."""
        self._cache, self._path, self._known = config.create_runtime_cache(), path, b""
        content = None if path is None else read(path)
        if content is not None and self._cache.deserialize(content):  # or it is of another GPU, driver or version
            self._known = hashlib.sha256(content).digest()
        if not config.set_runtime_cache(self._cache):
            self._path = None

    def keep(self) -> None:
        """Write it, if there is more in it than there was."""
        if self._path is None:
            return
        made = self._cache.serialize()
        content = b"" if made is None else bytes(memoryview(made))
        digest = hashlib.sha256(content).digest()
        if content and digest != self._known:
            self._known = digest
            write(self._path, content)


def path_of(plan: bytes | memoryview, version: str, gpu: Gpu) -> Path | None:
    """Where the cache of an engine is, of this version and on this GPU; None where nothing is remembered."""
    folder = records_folder()  # that of digests: beside it
    if not folder or sys.platform == "win32":
        return None
    what = hashlib.sha256(plan[:END])  # parts of it tell engines apart; all of it may be gigabytes
    what.update(plan[-END:])
    what.update(f"{len(plan)} {version} {gpu.name} {gpu.architecture}".encode())
    return Path(folder).with_name("tensorrt-rtx") / f"{what.hexdigest()[:32]}.cache"


def read(path: Path) -> bytes | None:
    """What was kept there, or None: there is nothing, it is not whole, or somebody else may have written it."""
    try:
        if not _is_own(path.parent.lstat(), stat.S_ISDIR):
            return None
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(handle)
            if not _is_own(about, stat.S_ISREG) or about.st_size > MOST_BYTES:
                return None
            content = file.read(MOST_BYTES)
        os.utime(path)  # it was used
    except OSError:
        return None
    head, body = content[: len(MAGIC) + DIGEST], content[len(MAGIC) + DIGEST :]
    return body if head == MAGIC + hashlib.sha256(body).digest() else None


def write(path: Path, content: bytes) -> None:
    """Keep it there, whole or not at all, and drop what was not used for longest."""
    if len(MAGIC) + DIGEST + len(content) > MOST_BYTES or not _made(path.parent):
        return
    with suppress(OutputError, OSError):
        write_file(path, MAGIC + hashlib.sha256(content).digest() + content)
        path.chmod(0o600)  # many systems let a user's group write new files; `read` would take none of those
        files = sorted(path.parent.glob("*.cache"), key=lambda file: file.lstat().st_mtime)
        for old in files[:-MOST_FILES]:
            old.unlink(missing_ok=True)


def _made(folder: Path) -> bool:
    """Whether the folder is there and this user's own; made if those above it are."""
    try:
        for each in (folder.parents[1], folder.parent, folder):
            if not each.is_dir():
                each.mkdir(mode=0o700)
            if each.stat().st_uid != os.geteuid():
                return False
        return _is_own(folder.lstat(), stat.S_ISDIR)
    except OSError:
        return False


def _is_own(about: os.stat_result, kind: Any) -> bool:
    """Whether it is of that kind, this user's, and nobody else may write it."""
    return kind(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
