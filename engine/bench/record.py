"""A measurement, written down as it goes: what was measured is kept, whatever comes after it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from flagdit.engine.bench.measure import Entry
from flagdit.engine.errors import OutputError
from flagdit.engine.machine import peak_bytes
from flagdit.engine.ras import Solver
from flagdit.files import write_file


class Record:
    """Entries over the prompts that are done, and the file that they are in.

    entries: the latest. prompts: how many they are over.
    """

    def __init__(self, path: Path | None, facts: Mapping[str, object]) -> None:
        """path: a JSON file, written anew after every batch; None is none. facts: what is known before the first."""
        self.path, self._facts = path, dict(facts)
        self.entries: list[Entry] = []
        self.prompts = 0
        self._shifts: dict[str, float] = {}

    def shift(self, solver: Solver, steps: int, shift: float) -> None:
        """The shift that so many dense steps are measured with."""
        self._shifts[f"{steps} {solver}"] = shift

    def keep(self, entries: Sequence[Entry], prompts: int) -> None:
        """The entries over so many prompts. A file that cannot be written now may be at the end: `write` says so."""
        self.entries, self.prompts = list(entries), prompts
        with suppress(OutputError):
            self.write()

    def write(self) -> None:
        """Write the file, whole or not at all. Raises OutputError."""
        if self.path is None:
            return
        facts = {"prompts": self.prompts, "peak_memory_bytes": peak_bytes(), "shifts": self._shifts}
        entries = [asdict(entry) for entry in self.entries]
        write_file(self.path, json.dumps({**self._facts, **facts, "rows": entries}, indent=1) + "\n")
