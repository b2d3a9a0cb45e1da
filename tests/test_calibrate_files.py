"""Calibrations at once, and on a full disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flagdit.engine import Bundle, Pipeline
from flagdit.engine.calibrate import Calibration, plans
from flagdit.files import OutputError, locked

Flagdit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


PROMPTS = ["a red apple", "a book", "a house", "a red book"]
QUICK = ("--prompts", "prompts.txt", "--budget", ".1", "--effort", 0, "--threads", 1)


def test_the_same_calibration_twice_at_once(flagdit: Flagdit, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    pipeline, folder = Pipeline.load(bundle, threads=1), bundle / ".calibration"
    with Calibration(pipeline, PROMPTS, None, guidance=4.0, folder=folder):
        code, _, err = flagdit("calibrate", bundle, *QUICK)
        assert code == 2 and "another flagdit is writing it" in err and err.count("\n") == 1
        with Calibration(pipeline, PROMPTS, (48, 16), guidance=4.0, folder=folder):  # another one may run beside it
            pass
    assert Bundle.load(bundle).model.presets == ()


def test_a_calibration_on_a_full_disk_goes_on_later(
    flagdit: Flagdit, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("prompts.txt").write_text("\n".join(PROMPTS))

    def full(path: Path, _: object) -> None:
        raise OutputError(f"{path}: cannot be written (No space left on device); make room, or choose another path")

    with monkeypatch.context() as patch:
        patch.setattr(plans, "write_file", full)
        code, _, err = flagdit("calibrate", bundle, *QUICK)
        assert code == 2 and "journal.json: cannot be written (No space left on device)" in err
        assert err.endswith("what is done is kept: the same command goes on from there\n")
    with monkeypatch.context() as patch:
        patch.setattr("flagdit.engine.bundle.reader.write_file", full)
        code, _, err = flagdit("calibrate", bundle, *QUICK)
        assert code == 2 and "manifest.json: cannot be written" in err and err.endswith("goes on from there\n")
    assert Bundle.load(bundle).model.presets == ()
    monkeypatch.setattr(plans, "search", None)  # nothing is left to search
    code, _, err = flagdit("calibrate", bundle, *QUICK)
    assert code == 0, err
    assert len(Bundle.load(bundle).model.presets) == 1 and not (bundle / ".calibration").exists()


def test_a_planted_folder_of_a_calibration_is_not_followed(flagdit: Flagdit, bundle: Path, tmp_path: Path) -> None:
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    (tmp_path / "mine").mkdir()
    (bundle / ".calibration").symlink_to(tmp_path / "mine")
    code, _, err = flagdit("calibrate", bundle, *QUICK)
    assert code == 2 and "is a link" in err and list((tmp_path / "mine").iterdir()) == []


PRESETS = """
import sys
from pathlib import Path
from presets import SPEC
from flagdit.engine import Bundle
from flagdit.engine.commands.calibrate import write_presets
bundle = Bundle.load(sys.argv[1])
for i in range(15):
    write_presets(bundle, [SPEC.model_copy(update={"name": f"{sys.argv[2]}-{i}"})])
"""


def test_presets_of_two_calibrations_both_stay(bundle: Path) -> None:
    """That end at once: each reads the manifest and writes it with its own added."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", PRESETS, str(bundle)]
    writers = [subprocess.Popen([*command, letter], env={**os.environ, "PYTHONPATH": path}) for letter in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(Bundle.load(bundle).model.presets) == 30
    with locked(bundle):
        pass
