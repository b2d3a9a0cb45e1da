"""What is said of work that goes on: a bar on a terminal; in a log a line now and then, without control codes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flagdit.engine.commands.common import messages, say

EVERY = 10.0
"""Seconds between two lines of a log, at least."""


class Work:
    """Work of a known length; by itself it says nothing."""

    def advance(self, steps: int = 1, doing: str = "") -> None:
        """So many steps more are done; `doing` says what was or is done, if there is something to say."""

    def now(self, doing: str) -> None:
        """Say what is done, without a step."""
        self.advance(0, doing)


class Bar(Work):
    """A bar that a terminal redraws."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1, doing: str = "") -> None:
        self._progress.update(self._task, advance=steps, description=doing or None)


class Log(Work):
    """A line every EVERY seconds at most, none at the end: what comes of the work says that."""

    def __init__(
        self, what: str, total: int, clock: Callable[[], float] = time.monotonic, show: Callable[[int], str] = str
    ) -> None:
        self._what, self._total, self._clock, self._done, self._show = what, total, clock, 0, show
        self._start = self._last = clock()

    def advance(self, steps: int = 1, doing: str = "") -> None:
        self._done += steps
        now = self._clock()
        if now - self._last >= EVERY and self._done < self._total:
            self._last = now
            more = f", {doing}" if doing else ""
            say(f"{self._what}: {self._show(self._done)} of {self._show(self._total)}{more}, {now - self._start:.0f} s")

    def reach(self, done: int) -> None:
        """So many steps are done in all."""
        self.advance(done - self._done)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def redraws(console: Console = messages) -> bool:
    """Whether lines can be redrawn there: on a terminal that understands how."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def working(what: str, total: int, remaining: bool = False, *, in_bytes: bool = False) -> Iterator[Work]:
    """Say how far work of `total` steps is, until the block ends; `remaining` guesses the time that it still takes.

    in_bytes: whether its steps are bytes.
    """
    if not redraws():
        yield Log(what, total, show=_gigabytes if in_bytes else str)
        return
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, *[TimeRemainingColumn()] * remaining, console=messages, transient=True) as progress:
        yield Bar(progress, progress.add_task(what, total=total))
