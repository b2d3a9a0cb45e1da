"""Digests that are remembered: what a record must say of a file to be believed, and who may have written it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from records import MIB, MOST, RIGHT, SETTLED, changed, known, remember, the_record

from flagdit.cpp_ext import FileRecord, records_folder

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(MIB))
    if not remember(path):
        pytest.skip("files of this file system are not remembered")
    return path


def test_a_file_is_known_by_its_digest(file: Path, cache: Path) -> None:
    """Wherever its folder moves, or through a link; the record is for its user alone."""
    assert known(file) and not known(file, "0" * 64)
    file.with_name("link").symlink_to(file)
    assert known(file.with_name("link"))
    assert oct(the_record(cache).stat().st_mode)[-3:] == "600"
    assert {oct(folder.stat().st_mode)[-3:] for folder in (cache, cache.parent, cache.parents[1])} == {"700"}


def rewritten(path: Path) -> None:
    path.write_bytes(bytes(MIB))


def grown(path: Path) -> None:
    with path.open("ab") as opened:
        opened.write(b"\0")


def with_its_old_time(path: Path) -> None:
    """Who writes to a file can set its time, and not that of its inode."""
    before = path.stat()
    path.write_bytes(b"\1" * MIB)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ctime_ns != before.st_ctime_ns


def replaced(path: Path) -> None:
    other = path.with_name("new")
    shutil.copy2(path, other)
    other.replace(path)


@pytest.mark.parametrize("change", [rewritten, grown, with_its_old_time, replaced, lambda path: path.touch()])
def test_a_file_that_changed_is_not_known(file: Path, change: Callable[[Path], None]) -> None:
    time.sleep(0.02)  # more than a tick of the clock of files
    change(file)
    assert not known(file)
    assert remember(file)


@pytest.mark.parametrize(("word", "sign"), [(0, 0), (1, 0), (2, 0), (2, -1), (3, 0), (4, -1), (5, -1), (6, 0), (6, 63)])
def test_every_field_of_a_record_counts(file: Path, cache: Path, word: int, sign: int) -> None:
    """Also those that a test cannot change in a file: "flagdit 1 DEVICE-INODE SIZE TIME TIME DIGEST"."""
    words = the_record(cache).read_text().split(" ")
    signs = list(words[word])
    signs[sign] = "1" if signs[sign] != "1" else "2"
    words[word] = "".join(signs)
    the_record(cache).write_text(" ".join(words))
    assert not known(file)


def test_a_young_file_is_not_remembered(file: Path, cache: Path) -> None:
    """It might change again within a tick of its clock, or in a page whose writing moves no time yet."""
    os.utime(file)
    for now in (None, changed(file), changed(file) + SETTLED - 1):
        with file.open("rb") as opened:
            FileRecord(opened.fileno(), now).keep(RIGHT)
        assert not known(file)
    assert remember(file, changed(file) + SETTLED)
    os.utime(file, ns=(changed(file) + 10**12,) * 2)  # a time to come
    with file.open("rb") as opened:
        FileRecord(opened.fileno(), file.stat().st_ctime_ns + SETTLED).keep(RIGHT)
    assert not known(file)


def test_a_file_that_changes_while_it_is_read_is_not_remembered(file: Path) -> None:
    os.utime(file, ns=(0, 0))
    with file.open("rb") as opened:
        record = FileRecord(opened.fileno(), changed(file) + SETTLED)
        assert record.unchanged()
        time.sleep(0.02)
        os.utime(file, ns=(0, 0))
        assert not record.unchanged()
        record.keep(RIGHT)
    assert not known(file)


def test_a_small_file_is_not_remembered(file: Path) -> None:
    os.truncate(file, MIB - 1)
    assert not remember(file)


def overwritten(content: bytes) -> Callable[[Path], None]:
    return lambda record: record.write_bytes(content) and None


def cut(record: Path) -> None:
    os.truncate(record, record.stat().st_size - 1)


def longer(record: Path) -> None:
    record.write_bytes(record.read_bytes() + b"\n")


def pipe(record: Path) -> None:
    record.unlink()
    os.mkfifo(record)


def folder(record: Path) -> None:
    record.unlink()
    record.mkdir()


def link(record: Path) -> None:
    record.rename(record.parents[1] / "moved")
    record.symlink_to(record.parents[1] / "moved")


def shared(record: Path) -> None:
    record.chmod(0o666)


def shared_folder(record: Path) -> None:
    record.parent.chmod(0o770)


def of_another(record: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(record, 12345, -1)


def folder_of_another(record: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(record.parent, 12345, -1)


FAULTS = [overwritten(b""), overwritten(b"\xff" * 4096), cut, longer, pipe, folder, link]


@pytest.mark.parametrize("fault", [*FAULTS, shared, shared_folder, of_another, folder_of_another])
def test_a_record_that_is_damaged_or_may_be_of_another_is_none(
    file: Path, cache: Path, fault: Callable[[Path], None]
) -> None:
    """Without a word; a record that is a file is replaced when the file is read the next time."""
    fault(the_record(cache))
    assert not known(file)
    assert remember(file) is (fault not in (folder, shared_folder, folder_of_another))


def unwritable(path: Path) -> str:
    path.write_text("a file")
    return str(path)


@pytest.mark.parametrize("place", [lambda _: "/proc", unwritable, lambda path: str(path / "a" / "b")])
def test_no_folder_is_no_record(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Callable[[Path], str]
) -> None:
    """One that cannot be made, for instance on a disk that can only be read."""
    monkeypatch.setenv("XDG_CACHE_HOME", place(tmp_path / "none"))
    assert not remember(file)


def test_where_records_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert records_folder() == "/home/somebody/.cache/flagdit/digests"
    monkeypatch.delenv("HOME")
    assert records_folder() == ""
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert records_folder() == "/var/cache/flagdit/digests"
    monkeypatch.setenv("FLAGDIT_NO_RECORDS", "1")
    assert records_folder() == ""


def test_root_makes_no_folders_in_a_home_of_another(file: Path, tmp_path: Path, cache: Path) -> None:
    """Which that user could not write to then."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    shutil.rmtree(cache.parents[1])
    cache.parents[1].mkdir()
    os.chown(cache.parents[1], 12345, -1)
    assert not remember(file) and not cache.parent.exists()


def test_records_are_bounded(file: Path, cache: Path) -> None:
    """Half of them go, those that were used least lately."""
    for number in range(MOST):
        (cache / f"0-{number}").touch()
        os.utime(cache / f"0-{number}", (number, number))
    second = file.with_name("second")
    second.write_bytes(bytes(MIB))
    assert known(file) and remember(second)
    left = {path.name for path in cache.iterdir()}
    assert known(file) and known(second)
    assert len(left) == MOST // 2 and f"0-{MOST - 1}" in left and "0-0" not in left


def test_several_processes_at_once(file: Path, cache: Path) -> None:
    """Each record is whole, and nothing else is left."""
    code = (
        "import sys\nfrom flagdit.cpp_ext import FileRecord\n"
        "for _ in range(300):\n for path in sys.argv[3:]:\n  with open(path, 'rb') as file:\n"
        "   FileRecord(file.fileno(), int(sys.argv[1])).keep(sys.argv[2])\n"
        "   assert FileRecord(file.fileno()).holds(sys.argv[2])"
    )
    second = file.with_name("second")
    second.write_bytes(bytes(MIB))
    command = [sys.executable, "-c", code, str(changed(second) + SETTLED), RIGHT, str(file), str(second)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert known(file) and known(second) and len(list(cache.iterdir())) == 2
