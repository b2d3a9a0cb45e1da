"""Locks of folders: they end with their process, and nobody gets in beside another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_files import error_of, python
from test_folders import FILES, LAST, content, fill

from flagdit.files import OutputError, locked, whole_folder
from flagdit.files.lock import LOCK

HOLD = """
import sys, time
from pathlib import Path
from flagdit.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another flagdit is writing it"), locked(tmp_path):
            pass
        with pytest.raises(OutputError, match="another flagdit is writing it"), locked(tmp_path, patience=0.1):
            pass
        holder.kill()
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


COUNT = """
import sys
from pathlib import Path
from flagdit.files import locked
folder = Path(sys.argv[1])
for _ in range(50):
    with locked(folder, patience=60):
        number = folder / "number"
        number.write_text(str(int(number.read_text()) + 1))
"""


def test_patient_ones_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None gets in beside another, though every one removes the lock's file."""
    (tmp_path / "number").write_text("0")
    code = COUNT.replace(
        "from flagdit.files import locked", "from flagdit.files import locked, lock; lock.PAUSE = .001"
    )
    counters = [python(code, tmp_path) for _ in range(3)]
    assert [error_of(counter) for counter in counters] == ["", "", ""]
    assert (tmp_path / "number").read_text() == "150"


def test_a_planted_lock_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match="cannot be written"):
        fill(tmp_path / "out")
    (tmp_path / "out" / LOCK).unlink()
    os.link(tmp_path / "mine", tmp_path / "out" / LOCK)
    fill(tmp_path / "out")
    assert (tmp_path / "mine").read_text() == "kept" and content(tmp_path / "out") == FILES


def test_without_locks_the_living_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flagdit.files.lock.hold", lambda _: None)
    with whole_folder(tmp_path, LAST) as part:
        (part / LAST).write_text("first")
        with pytest.raises(OutputError, match=r"exists already, with \.flagdit-"):
            fill(tmp_path)
    assert content(tmp_path) == {LAST: "first"}
