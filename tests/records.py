"""Records of digests for tests: where they are, and files that are said to be right."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from flagdit.cpp_ext import FileRecord, records_folder
from flagdit.engine import Bundle
from flagdit.engine.bundle.reader import DEMO

MIB = 1 << 20
SETTLED = 60 * 10**9  # nanoseconds after its last change that a file is remembered
MOST = 512
RIGHT = hashlib.sha256(b"right").hexdigest()
WEIGHTS = "weights.safetensors"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the records, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FLAGDIT_NO_RECORDS", raising=False)
    assert records_folder() == str(tmp_path / "cache" / "flagdit" / "digests")
    return tmp_path / "cache" / "flagdit" / "digests"


def changed(path: Path) -> int:
    about = path.stat()
    return max(about.st_mtime_ns, about.st_ctime_ns)


def remember(path: Path, now: int | None = None) -> bool:
    """As if the file were right, and had been read long after its last change; whether it is known then."""
    with path.open("rb") as opened:
        FileRecord(opened.fileno(), changed(path) + SETTLED if now is None else now).keep(RIGHT)
    return known(path)


def known(path: Path, digest: str = RIGHT) -> bool:
    with path.open("rb") as opened:
        return FileRecord(opened.fileno()).holds(digest)


def the_record(cache: Path) -> Path:
    (record,) = cache.iterdir()
    return record


@pytest.fixture
def believed(cache: Path, tmp_path: Path) -> Path:
    """A bundle with damaged weights that are said to be right."""
    copy = Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    with (copy / WEIGHTS).open("r+b") as opened:
        opened.seek(-1000, os.SEEK_END)
        opened.write(bytes(1000))
    digest = Bundle.open(copy).manifest.files[WEIGHTS].sha256
    with (copy / WEIGHTS).open("rb") as opened:
        FileRecord(opened.fileno(), changed(copy / WEIGHTS) + SETTLED).keep(digest)
    if not known(copy / WEIGHTS, digest):
        pytest.skip("files of this file system are not remembered")
    return copy
