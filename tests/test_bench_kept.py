"""A measurement that is done is kept, whatever ends it; and it can be read in 80 columns and in a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from flagdit.engine import NumberError, OutputError
from flagdit.engine.bench import Entry, Record
from flagdit.engine.bench.measure import measure
from flagdit.engine.commands import bench, tables
from flagdit.engine.version import version_of

PROMPT = "a red apple"


def entry(name: str, quality: float = 20.0) -> Entry:
    return Entry(name, "flagdit", 9, "ab2", 0.123, 0.987, 1, 1, 1.01, quality, 0.25, 0.5, 10**6)


def test_a_record_is_written_after_every_batch(tmp_path: Path) -> None:
    record = Record(tmp_path / "b.json", {"of": 3, "model": "tiny"})
    record.shift("ab2", 6, 2.5)
    assert not (tmp_path / "b.json").exists()
    for count in (2, 3):
        record.keep([entry("fast", 20 + count)], count)
        facts = json.loads((tmp_path / "b.json").read_text())
        assert (facts["prompts"], facts["of"], facts["shifts"]) == (count, 3, {"6 ab2": 2.5})
        assert [r["psnr"] for r in facts["rows"]] == [20 + count]
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_a_full_disk_ends_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written yet is written at the end, or that says why it cannot."""

    def full(path: Path, content: str) -> None:
        raise OutputError(f"{path}: cannot be written (no space)")

    record = Record(tmp_path / "b.json", {})
    with monkeypatch.context() as patch:
        patch.setattr("flagdit.engine.bench.record.write_file", full)
        record.keep([entry("fast")], 1)
        with pytest.raises(OutputError, match="no space"):
            record.write()
    record.write()
    assert json.loads((tmp_path / "b.json").read_text())["prompts"] == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (NumberError("the latent has 3 values"), 2)],
    ids=["stopped", "broken"],
)
def test_what_was_measured_before_the_end_is_kept(
    flagdit,  # type: ignore[no-untyped-def]
    bundle_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
) -> None:
    """In the table and in the file, with how much of it there is."""

    def ends(*args: Any, **options: Any) -> Iterator[list[Entry]]:
        yield next(measure(*args, **options))
        raise error

    monkeypatch.setattr(bench, "measure", ends)
    (tmp_path / "prompts.txt").write_text("a book\n" * 3)
    given = ("--quick", "--prompts", "prompts.txt", "--batch", 2, "--shift", 3, "--json", "b.json")
    got, out, err = flagdit("bench", bundle_dir, *given)
    assert got == code and "stopped after 2 of 3 prompts; what they gave is above, and kept in b.json" in err
    assert "  balanced " in out
    facts = json.loads((tmp_path / "b.json").read_text())
    assert (facts["prompts"], facts["of"]) == (2, 3) and facts["rows"][0]["name"] == "dense 30"


def test_missing_metadata_throws_nothing_away(
    flagdit,  # type: ignore[no-untyped-def]
    bundle_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """onnxruntime-gpu has the module and other metadata; a tree of sources has none at all."""
    found = metadata.distribution

    def missing(name: str) -> metadata.Distribution:
        if name in ("onnxruntime", "flagdit"):
            raise metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    assert version_of("flagdit") == "unknown"
    code, _, err = flagdit("bench", bundle_dir, "--quick", "--first", 1, "--shift", 3, "--json", "b.json")
    assert code == 0, err
    facts = json.loads((tmp_path / "b.json").read_text())
    assert facts["version"] == "unknown" and facts["onnxruntime"].count(".") >= 1


@pytest.mark.parametrize("columns", [20, 80])
def test_tables_are_whole_in_any_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Nothing is cut off: a line that is too long is for the terminal to wrap, and for a pipe to keep."""
    monkeypatch.setenv("COLUMNS", str(columns))
    table = Table("name", "file", box=None)
    table.add_column("figures", no_wrap=True)
    table.add_row("a" * 30, "b" * 40, "1.23 4.56 7.89")
    tables.show(table)
    bench.show([entry("n" * 32)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["a" * 30, "b" * 40, "1.23", "4.56", "7.89"]
    assert "…" not in "".join(lines)
    (figures,) = (line for line in lines if "n" * 32 in line)
    assert figures.split()[1:] == ["0.12", "0.99", "1.01", "100%", "20.0", "±", "0.2", "0.500", "1.0"]
    assert len(figures) < 80


def test_a_pipe_without_the_letters_gets_the_figures() -> None:
    """A pipe may have an encoding that has no ± and no blocks: that is no reason to lose a table."""
    code = "import sys; sys.argv = ['flagdit', 'plan', '--tokens', '64']; from flagdit.engine.cli import main; main()"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert "100.0%" in done.stdout and done.stdout.isascii()
