"""Files written whole or not at all: by two at once, over planted links, on a full disk, after killed writers."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flagdit.files import OutputError, check_file, sweep, write_file
from flagdit.files import file as filing
from flagdit.files import part as parts

PART = ".flagdit-0123456789abcdef.part"


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs `code`."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True)


def error_of(process: subprocess.Popen[str]) -> str:
    """The last line of its standard error, when it has ended."""
    _, err = process.communicate(timeout=60)
    return (err.strip().splitlines() or [""])[-1]


def end_of(code: str, *arguments: object) -> int:
    """The exit code of another process that runs `code`; -9 if it was killed."""
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=False).returncode


WRITE = """
import sys
from pathlib import Path
from flagdit.files import write_file
for _ in range(200):
    write_file(Path(sys.argv[1]), sys.argv[2] * 300_000)
"""


def test_two_writers_and_a_reader(tmp_path: Path) -> None:
    """What is read is always all of one of them."""
    path = tmp_path / "a.json"
    write_file(path, "x" * 300_000)
    writers, seen = [python(WRITE, path, letter) for letter in "yz"], set()
    while any(writer.poll() is None for writer in writers):
        text = path.read_text()
        assert len(text) == 300_000 and text == text[0] * len(text)
        seen.add(text[0])
    assert [error_of(writer) for writer in writers] == ["", ""]
    assert seen & set("yz") and [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_link_at_the_output_is_replaced(tmp_path: Path) -> None:
    mine, path = tmp_path / "mine", tmp_path / "a.png"
    mine.write_text("kept")
    path.symlink_to(mine)
    check_file(path, (".png",))
    write_file(path, b"picture")
    assert mine.read_text() == "kept" and path.read_bytes() == b"picture" and not path.is_symlink()


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it could be guessed."""
    (tmp_path / "mine").write_text("kept")
    (tmp_path / PART).symlink_to(tmp_path / "mine")
    monkeypatch.setattr(parts, "name", lambda: PART)
    with pytest.raises(OutputError, match=r"a\.png: cannot be written \(File exists\)"):
        write_file(tmp_path / "a.png", b"picture")
    assert (tmp_path / "mine").read_text() == "kept" and (tmp_path / PART).is_symlink()


def test_names_are_not_guessed_and_fit(tmp_path: Path) -> None:
    names = {parts.name() for _ in range(100)}
    assert len(names) == 100 and all(parts.NAME.fullmatch(name) for name in names)
    longest = tmp_path / f"{'a' * 251}.png"
    check_file(longest, (".png",))
    write_file(longest, b"picture")
    with pytest.raises(OutputError, match="File name too long"):
        check_file(tmp_path / f"{'a' * 252}.png", (".png",))


def test_what_lies_beside_blocks_nothing_and_stays(tmp_path: Path) -> None:
    """Names that former versions used, and some that only look like ours."""
    others = (".a.png.probe", ".a.png.part", ".flagdit-1.part", f"a{PART}", f"{PART}s")
    for name in others:
        (tmp_path / name).write_text("kept")
    (tmp_path / PART).symlink_to(tmp_path / others[0])
    (tmp_path / PART.replace("0", "1")).mkdir()
    check_file(tmp_path / "a.png", (".png",))
    write_file(tmp_path / "a.png", b"picture")
    assert all((tmp_path / name).read_text() == "kept" for name in others) and (tmp_path / PART).is_symlink()
    assert len(list(tmp_path.iterdir())) == len(others) + 3


KILLED = """
import os, signal, sys
from pathlib import Path
from flagdit.files import part
handle, path = part.create(Path(sys.argv[1]))
os.write(handle, b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_goes_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    handle, living = parts.create(tmp_path)
    assert end_of(KILLED, tmp_path) == -9 and len(list(tmp_path.iterdir())) == 2
    check_file(tmp_path / "a.png", (".png",))
    assert list(tmp_path.iterdir()) == [living]
    os.close(handle)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_another_user_left_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / PART).write_text("theirs")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    sweep(tmp_path)
    assert (tmp_path / PART).exists()


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network drives may have none."""
    monkeypatch.setattr(parts, "hold", lambda _: None)
    (tmp_path / PART).write_text("half")
    sweep(tmp_path)
    assert (tmp_path / PART).exists()
    os.utime(tmp_path / PART, times=(0, time.time() - parts.OLD - 1))
    sweep(tmp_path)
    assert not (tmp_path / PART).exists()


LIMITED = """
import resource, sys
from pathlib import Path
from flagdit.files import write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_file(Path(sys.argv[1]), "y" * 300_000)
"""


def test_a_limit_of_the_system_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("before")
    err = error_of(python(LIMITED, tmp_path / "a.json"))
    assert err.endswith("a.json: cannot be written (File too large); make room, or choose another path")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Some file systems say so only when they are asked to have it on the disk."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.json").write_text("before")
    path = tmp_path / "a.json"
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"a\.json: cannot be written \(No space left on device\); make room, or"):
            write_file(path, "after")
    else:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OutputError, match=r"a\.json: cannot be written \(No space left on device\); make room, or"):
            check_file(path, (".json",))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=64k none "$1" && cd "$1" && echo before > a.json && exec "$2" -c "$3"
"""
FILL = """
from pathlib import Path
from flagdit.files import OutputError, check_file, write_file
try:
    write_file(Path("a.json"), "x" * 200_000)
except OutputError as error:
    print(error)
print([path.read_text() for path in Path().iterdir()])
Path("big").write_bytes(bytes(40_000))
try:
    check_file(Path("a.json"), (".json",))
except OutputError as error:
    print(error)
"""


def on_a_small_disk(folder: Path, code: str) -> str:
    """What `code` prints that runs in a volume of 64 KiB mounted at `folder`, which some machines do not allow."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no namespaces for users here")
    command = [unshare, "-rm", "sh", "-c", ON_A_SMALL_DISK, "sh", str(folder), sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "mount:" in done.stderr:
        pytest.skip("no mounts for users here")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    full = "a.json: cannot be written (No space left on device); make room, or choose another path"
    assert on_a_small_disk(tmp_path, FILL).splitlines() == [full, "['before\\n']", full]


def test_permissions(tmp_path: Path) -> None:
    """A new file has the usual ones, and one that is replaced keeps its own."""
    (tmp_path / "usual").touch()
    write_file(tmp_path / "new", b"")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
    (tmp_path / "new").chmod(0o600)
    write_file(tmp_path / "new", b"again")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_finished_work_is_kept_under_another_name(tmp_path: Path) -> None:
    """If a folder has taken the name meanwhile."""
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError) as error:
        write_file(tmp_path / "a.png", b"picture")
    found = re.fullmatch(r".*a\.png: cannot be replaced \(.*\); what it was to be is kept as (.*)", str(error.value))
    assert found and Path(found[1]).read_bytes() == b"picture" and Path(found[1]).suffix == ".png"
    assert len(list(tmp_path.iterdir())) == 2


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is renamed first may be empty after a crash; and the folder follows, or the old one may come back."""
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"{os.fstat(handle).st_size} bytes")
        sync(handle)

    def replaced(path: Path, target: Path) -> Path:
        done.append("name")
        return replace(path, target)

    monkeypatch.setattr(filing.os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_file(tmp_path / "a.json", "after")
    assert done == ["5 bytes", "name", "folder"]
