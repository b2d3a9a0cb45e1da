"""Folders filled whole or not at all: wherever they are, one writer at a time, and killed at any moment."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from test_files import KILLED, end_of, error_of, on_a_small_disk, python

from flagdit.files import OutputError, check_folder, whole_folder

FILES = {"a.onnx": "graph", "weights": "w" * 5000, "manifest.json": "{}"}
LAST = "manifest.json"


def fill(path: Path, text: str = "") -> None:
    """Fill a folder with FILES."""
    with whole_folder(path, LAST) as part:
        for name, content in FILES.items():
            (part / name).write_text(content + text)


def content(path: Path) -> dict[str, str]:
    return {entry.name: entry.read_text() for entry in path.iterdir()}


PLACES: dict[str, Callable[[], str]] = {
    "new": lambda: "out",
    "in new folders": lambda: "x/y/out",
    "empty": lambda: str(Path("out").mkdir() or "out"),
    "the current one": lambda: ".",
    "a link to one": lambda: str(Path("real").mkdir() or Path("out").symlink_to("real") or "out"),
    "of a volume": lambda: str(Path("out/lost+found").mkdir(parents=True) or "out"),
}


@pytest.mark.parametrize("place", PLACES)
def test_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(PLACES[place]())
    before = path.stat().st_ino if path.exists() else None
    check_folder(path, LAST)
    fill(path)
    (path / "lost+found").rmdir() if place == "of a volume" else None
    assert content(path) == FILES
    assert before in (None, path.stat().st_ino)  # a shell may be in it
    assert stat.S_IMODE((path / LAST).stat().st_mode) & 0o400
    with pytest.raises(OutputError, match=r"exists already, with a\.onnx in it; remove it"):
        fill(path)
    with pytest.raises(OutputError, match="exists already"):
        check_folder(path, LAST)
    assert content(path) == FILES


VOLUME = """
from pathlib import Path
from flagdit.files import check_folder, whole_folder
Path("a.json").unlink()
volume = Path.cwd()
check_folder(volume, "last")
with whole_folder(volume, "last") as part:
    (part / "last").write_text("whole")
print([path.name for path in volume.iterdir()])
"""


def test_a_volume(tmp_path: Path) -> None:
    """Its root can be no other folder's new name."""
    assert on_a_small_disk(tmp_path, VOLUME) == "['last']\n"


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file": (Path.touch, "exists already, and is a file"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "is a link to nowhere, which is not there"),
    "a link in a circle": (lambda path: path.symlink_to("out"), "is a link to out, which is not there"),
    "below a file": (lambda path: path.parent.rmdir() or path.parent.touch(), "is a file; choose another folder"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("attempt", [lambda path: check_folder(path, LAST), fill], ids=["check", "fill"])
def test_what_can_be_no_folder_is_refused(tmp_path: Path, case: str, attempt: Callable[[Path], None]) -> None:
    make, message = REFUSED[case]
    (tmp_path / "sub").mkdir()
    make(tmp_path / "sub" / "out")
    with pytest.raises(OutputError) as error:
        attempt(tmp_path / "sub" / "out")
    assert message in str(error.value) or (case == "below a file" and "Not a directory" in str(error.value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["out", "x/y/out"])
def test_a_failure_leaves_nothing(tmp_path: Path, path: str) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / path, LAST) as part:
            (part / "a").write_text("half")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert list((tmp_path / "out").iterdir()) == []


LIMITED = """
import resource, sys
from pathlib import Path
from flagdit.files import whole_folder
with whole_folder(Path(sys.argv[1]), "last") as part:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    (part / "weights").write_bytes(bytes(300_000))
"""


def test_a_full_disk_says_so_in_one_line(tmp_path: Path) -> None:
    err = error_of(python(LIMITED, tmp_path / "out"))
    what = "cannot be written (File too large); nothing of it is kept; make room, or choose another path"
    assert err.endswith(f"{tmp_path / 'out'}: {what}") and list(tmp_path.iterdir()) == []


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """The second is refused before it works, and the first goes on."""
    with whole_folder(tmp_path / "out", LAST) as part:
        (part / LAST).write_text("first")
        for attempt in (fill, lambda path: check_folder(path, LAST)):
            with pytest.raises(OutputError, match="out: another flagdit is writing it; wait until it ends"):
                attempt(tmp_path / "out")
    assert content(tmp_path / "out") == {LAST: "first"}


FILL = f"""
import os, signal, sys
from pathlib import Path
from flagdit.files import whole_folder
rename, done = Path.rename, []
def counted(path, target):
    if len(done) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(path)
    return rename(path, target)
Path.rename = counted
with whole_folder(Path(sys.argv[1]), {LAST!r}) as part:
    for name, text in {FILES!r}.items():
        (part / name).write_text(text)
    if int(sys.argv[2]) < 0:
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", [-1, 0, 1, 2])
@pytest.mark.parametrize("before", ["missing", "empty"])
def test_killed_it_is_empty_for_the_next(tmp_path: Path, moment: int, before: str) -> None:
    """While it works (-1), or before it moves file 0, 1 or 2."""
    path = tmp_path / "out"
    if before == "empty":
        path.mkdir()
    assert end_of(FILL, path, moment) == -9
    assert list(path.glob(".flagdit-*")) and not (path / LAST).exists()
    check_folder(path, LAST)
    assert list(path.iterdir()) == []
    assert end_of(FILL, path, moment) == -9
    fill(path, "again")
    assert content(path) == {name: text + "again" for name, text in FILES.items()}


def test_a_check_that_was_killed_leaves_an_empty_folder(tmp_path: Path) -> None:
    assert end_of(KILLED, tmp_path) == -9
    fill(tmp_path)
    assert content(tmp_path) == FILES


def test_killed_after_its_last_move_it_is_whole(tmp_path: Path) -> None:
    code = FILL.replace(
        "rename(path, target)", "rename(path, target) if len(done) < 3 else (rename(path, target), kill())"
    )
    code = code.replace("rename, done =", "kill = lambda: os.kill(os.getpid(), signal.SIGKILL)\nrename, done =")
    assert end_of(code, tmp_path / "out", 9) == -9
    with pytest.raises(OutputError, match="exists already"):
        fill(tmp_path / "out")
    assert content(tmp_path / "out") == FILES  # what was left beside them is gone


def test_a_killed_one_takes_nothing_of_others_with_it(tmp_path: Path) -> None:
    """Something came into the folder before the next run: nobody knows whose the rest is."""
    assert end_of(FILL, tmp_path, 1) == -9
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(OutputError, match="exists already"):
        fill(tmp_path)
    assert (tmp_path / "mine").read_text() == "kept" and (tmp_path / "a.onnx").exists()


def test_what_another_user_left_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert end_of(FILL, tmp_path, -1) == -9
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(OutputError, match=r"exists already, with \.flagdit-"):
        fill(tmp_path)
    assert len(list(tmp_path.glob(".flagdit-*.part"))) == 1


def test_what_comes_into_it_meanwhile_stays(tmp_path: Path) -> None:
    """And the finished work is not lost."""
    with pytest.raises(OutputError) as error, whole_folder(tmp_path / "out", LAST) as part:
        (part / LAST).write_text("work")
        (tmp_path / "out" / LAST).write_text("mine")
    message, _, kept = str(error.value).rpartition(" ")
    assert message.endswith(f"{LAST} has come into it meanwhile; the finished files are kept in")
    assert content(Path(kept)) == {LAST: "work"} and (tmp_path / "out" / LAST).read_text() == "mine"


def test_files_that_cannot_move_are_kept_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "weights" and target.parent == tmp_path:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(
        OutputError, match=r"cannot be written \(Operation not permitted\); the finished files"
    ) as error:
        fill(tmp_path)
    (kept,) = tmp_path.iterdir()
    assert str(error.value).endswith(str(kept)) and content(kept) == FILES


def test_an_error_of_a_file_names_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as error, whole_folder(tmp_path / "out", LAST) as part:
        raise OutputError(f"{part / 'denoise.engine'}: cannot be written")
    assert str(error.value) == f"{tmp_path / 'out' / 'denoise.engine'}: cannot be written"
