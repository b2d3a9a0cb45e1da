"""Digests that are remembered: what a record must say of a file to be believed, and who may have written it.

A file is damaged and said to be right, so whoever believes the record takes the damaged file, and whoever reads it does
not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flagdit import cpp_ext
from flagdit.cpp_ext import FileRecord, records_folder
from flagdit.engine import Bundle, BundleError, Pipeline
from flagdit.engine.bundle import regular
from flagdit.engine.bundle.onnx_file import external_tensors
from flagdit.engine.bundle.reader import DEMO

MIB = 1 << 20
SETTLED = 60 * 10**9  # nanoseconds after its last change that a file is remembered
MOST = 512
RIGHT = hashlib.sha256(b"right").hexdigest()
WEIGHTS = "weights.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the records, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FLAGDIT_NO_RECORDS", raising=False)
    assert records_folder() == str(tmp_path / "cache" / "flagdit" / "digests")
    return tmp_path / "cache" / "flagdit" / "digests"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(MIB))
    if not remember(path):
        pytest.skip("files of this file system are not remembered")
    return path


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


READERS: dict[str, Callable[[Path], object]] = {
    "checked": Bundle.load,
    "checked by the core": lambda path: cpp_ext.Bundle.open(str(path)).check(),
    "used": lambda path: Bundle.open(path).read(WEIGHTS),
}


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


@pytest.mark.parametrize("reader", READERS)
def test_who_believes_a_record(believed: Path, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    """Until the file changes; nobody, where that is turned off."""
    READERS[reader](believed)
    with monkeypatch.context() as off, pytest.raises(BundleError, match=f"{WEIGHTS}: damaged"):
        off.setenv("FLAGDIT_NO_RECORDS", "1")
        READERS[reader](believed)
    (believed / WEIGHTS).touch()
    with pytest.raises(BundleError, match=f"{WEIGHTS}: damaged"):
        READERS[reader](believed)


def test_of_a_known_file_only_what_a_graph_has_in_it_is_read(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of it is zeros, and the picture the same."""
    bundle = Bundle.open(shutil.copytree(DEMO, tmp_path / "bundle"))
    path, expected = bundle.path(WEIGHTS), bundle.manifest.files[WEIGHTS]
    read: dict[str, bytes | memoryview] = {}
    whole = bundle.graph("condition.onnx", read).data[WEIGHTS]
    assert bytes(whole) == path.read_bytes() and list(read) == [WEIGHTS]
    pictures = [Pipeline.load(bundle.directory, threads=1)("an apple", steps=2).latents]
    with path.open("rb") as opened:
        FileRecord(opened.fileno(), changed(path) + SETTLED).keep(expected.sha256)
    if not known(path, expected.sha256):
        pytest.skip("files of this file system are not remembered")
    read = {}
    parts = bundle.graph("condition.onnx", read).data[WEIGHTS]
    assert read == {} and len(parts) == expected.bytes
    needed = np.zeros(len(parts), bool)
    for tensor in external_tensors("condition.onnx", bundle.read("condition.onnx")):
        needed[tensor.offset : tensor.offset + tensor.length] = True
    np.testing.assert_array_equal(np.asarray(parts), np.where(needed, np.asarray(whole), 0))
    assert 0 < needed.mean() < 1
    pictures.append(Pipeline.load(bundle.directory, threads=1)("an apple", steps=2).latents)
    np.testing.assert_array_equal(*pictures)
    overlapping = regular.known_parts(path, expected, [(8, 16), (30, 4), (8, 8), (12, 14), (30, 0)])
    assert overlapping is not None
    content = path.read_bytes()
    assert overlapping[:40] == bytes(8) + content[8:26] + bytes(4) + content[30:34] + bytes(6)
    monkeypatch.setenv("FLAGDIT_NO_RECORDS", "1")
    assert regular.known_parts(path, expected, [(0, 8)]) is None


def test_verify_believes_nothing(believed: Path, flagdit) -> None:  # type: ignore[no-untyped-def]
    """It names each file that is not what it should be, and goes on to the next."""
    code, out, _ = flagdit("inspect", believed)
    assert code == 0 and "all intact; large ones are as they were when they were read last" in out
    (believed / "place.onnx").unlink()
    os.truncate(believed / "tokenizer.json", 10)
    code, out, err = flagdit("verify", believed)
    assert code == 1 and out == "" and len(err.splitlines()) == 3
    assert f"error: {believed / WEIGHTS}: damaged" in err and "place.onnx: missing from the bundle" in err
    assert "tokenizer.json: 10 bytes instead of" in err
    code, _, err = flagdit("verify", believed / "nothing")
    assert code == 2 and "no such bundle directory" in err


def test_verify_remembers(tmp_path: Path, flagdit, cache: Path) -> None:  # type: ignore[no-untyped-def]
    told: list[tuple[int, int]] = []
    assert Bundle.verify("demo", lambda done, whole: told.append((done, whole))) == []
    whole = sum(file.bytes for file in Bundle.open("demo").manifest.files.values())
    assert told[-1] == (whole, whole) and sorted(told) == told
    code, out, _ = flagdit("verify", "demo")
    assert code == 0 and out == "every byte is what the manifest says\n"
    if time.time_ns() - changed(DEMO / WEIGHTS) > SETTLED and known(
        DEMO / WEIGHTS, Bundle.open("demo").model.weights.sha256
    ):
        assert Bundle.load("demo").known == 1
