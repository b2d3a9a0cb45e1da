"""A guard against losses of speed or quality, for CI: a few ratios of one run, beside those that were stored.

    python benchmarks/guard.py             # compare, and fail on a real loss
    python benchmarks/guard.py --store     # after a change that is meant to move them

Ratios are to 30 dense Euler steps of the same run, so the machine hardly matters; the bands are wide, because a shared
machine is noisy all the same. PSNR depends on the weights of the demo, which the stored figures name.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flagdit.engine import Pipeline
from flagdit.engine.bench import Entry, measure, settings
from flagdit.files import write_file

STORED = Path(__file__).parent / "results" / "guard.json"
NAMES = ("dense 30", "paper 0.25", "draft", "fast", "balanced", "quality", "best")
PROMPTS = (
    "a red apple on a white background",
    "a car on a green background",
    "a panda on a pink background",
    "a sunflower on a blue background",
)


@dataclass(frozen=True)
class Band:
    """How much worse a figure may get: `more` of it is a loss if positive, less of it if negative."""

    field: str
    more: float
    relative: bool


BANDS = (Band("cost", 0.01, True), Band("time", 0.3, True), Band("host", 0.04, False), Band("psnr", -1.0, False))


def lost(band: Band, now: float, then: float) -> bool:
    """Whether a figure left its band."""
    limit = then * (1 + band.more) if band.relative else then + band.more
    return now > limit if band.more > 0 else now < limit


def run() -> tuple[str, list[Entry]]:
    """The weights' checksum, and the entries."""
    pipeline = Pipeline.load("demo", threads=1)
    chosen = [setting for setting in settings(pipeline.presets()) if setting.name in NAMES]
    *_, entries = measure(pipeline, chosen, PROMPTS, batch=len(PROMPTS))
    return pipeline.spec.weights.sha256, entries


def main(
    store: Annotated[bool, typer.Option("--store", help="Make this run the one to compare with.")] = False,
) -> None:
    """Compare this build with the stored figures; exit code 1 on a loss."""
    weights, entries = run()
    figures = {entry.name: {band.field: round(getattr(entry, band.field), 4) for band in BANDS} for entry in entries}
    if store:
        write_file(STORED, json.dumps({"weights": weights, "rows": figures}, indent=1) + "\n")
        return
    before = json.loads(STORED.read_text())
    if before["weights"] != weights:
        sys.exit("error: the stored figures are of other weights; run: python benchmarks/guard.py --store")
    table = Table("setting", "figure", "now", "stored", "", header_style="bold", box=None)
    losses = 0
    for name, now in figures.items():
        for band in BANDS:
            then = before["rows"][name][band.field]
            bad = lost(band, now[band.field], then)
            losses += bad
            table.add_row(name, band.field, f"{now[band.field]:.3f}", f"{then:.3f}", "[red]lost[/]" if bad else "")
    Console().print(table)
    sys.exit(1 if losses else 0)


if __name__ == "__main__":
    typer.run(main)
