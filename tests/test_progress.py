"""How far work is: a line now and then where nobody can redraw one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flagdit.engine.commands import progress
from flagdit.engine.commands.progress import EVERY, Log, working

PROMPT = "a red apple on a blue background"


class Clock:
    """A time that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_log_has_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    log = Log("out.png", 40, clock)
    for _ in range(40):
        clock.now += EVERY / 4
        log.advance(1, "dense")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"out.png: {4 * i} of 40, dense, {EVERY * i:.0f} s" for i in range(1, 10)]  # not the last


def test_quick_work_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    with working("a[red].png", 3) as work:
        for _ in range(3):
            work.advance()
            work.now("something")
    assert capsys.readouterr().err == ""


def test_work_may_be_said_as_a_whole(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    log = Log("denoise, percent", 100, clock)
    for done in (0, 30, 80, 100):
        clock.now += EVERY
        log.reach(done)
    assert [line.split(", ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "percent: 0 of 100",
        "percent: 30 of 100",
        "percent: 80 of 100",
    ]


@pytest.mark.parametrize("terminal", ["xterm-256color", "dumb"])
def test_a_piped_run_is_plain_lines(bundle_dir: Path, tmp_path: Path, terminal: str) -> None:
    """Start, some steps (with no pause between them, all), end; no control codes, whatever the terminal around it."""
    code = (
        "import sys; from flagdit.engine.commands import progress; progress.EVERY = 0.0; "
        "from flagdit.engine.cli import main; main()"
    )
    arguments = ["generate", PROMPT, "--bundle", str(bundle_dir), "--steps", "4", "-o", "a[red].png"]
    environment = {"TERM": terminal, "PYTHONPATH": ":".join(sys.path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "" and all(c.isprintable() or c == "\n" for c in done.stderr)
    first, *steps, last = done.stderr.splitlines()
    assert first == "a[red].png: 4 steps of 32x32, seed 0"
    assert [line.split(",")[0] for line in steps] == [f"a[red].png: {i} of 4" for i in (1, 2, 3)]
    assert last.startswith("a[red].png  32x32, 4 steps")


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "redraws", lambda: True)
    with working("a[red].png", 3, remaining=True) as work:
        assert isinstance(work, progress.Bar)
        work.advance(2, "[dense]")
        (task,) = work._progress.tasks
        assert (task.completed, task.total, task.description) == (2, 3, "[dense]")
        work.advance()
        assert task.description == "[dense]"
