"""A guard against losses of speed or quality, for CI: a few ratios of one run, beside those that were stored.

    python benchmarks/guard.py             # compare, and fail on a real loss
    python benchmarks/guard.py --store     # after a change that is meant to move them

Ratios are to 30 dense Euler steps of the same run, so the machine hardly matters; the bands are wide, because a shared
machine is noisy all the same. The least time of each setting in two rounds counts, and in three more while something
looks lost: a real loss stays. PSNR depends on the weights of the demo, which the stored figures name.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flagdit.engine import Pipeline
from flagdit.engine.bench import Entry, ExactPictures, measure, settings
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


ROUNDS = 5
Figures = Mapping[str, Mapping[str, float]]


def rounds(pipeline: Pipeline) -> Iterator[Figures]:
    """The figures of every setting, again and again: of times the least so far."""
    chosen = [setting for setting in settings(pipeline.presets()) if setting.name in NAMES]
    least: list[Entry] = []
    with tempfile.TemporaryDirectory() as kept:
        exactly = ExactPictures(pipeline, None, pipeline.spec.guidance.scale, folder=Path(kept))
        for _ in range(ROUNDS):
            *_, entries = measure(pipeline, chosen, PROMPTS, batch=len(PROMPTS), exactly=exactly)
            least = [quicker(*pair) for pair in zip(entries, least or entries, strict=True)]
            base = least[0].seconds
            yield {
                e.name: {b.field: round(getattr(replace(e, time=e.seconds / base), b.field), 4) for b in BANDS}
                for e in least
            }


def quicker(now: Entry, before: Entry) -> Entry:
    """One with the least that two took."""
    return replace(now, seconds=min(now.seconds, before.seconds), host=min(now.host, before.host))


def losses(figures: Figures, stored: Figures) -> set[tuple[str, str]]:
    """Settings and fields that left their bands."""
    return {
        (name, band.field)
        for name, now in figures.items()
        for band in BANDS
        if lost(band, now[band.field], stored[name][band.field])
    }


def main(
    store: Annotated[bool, typer.Option("--store", help="Make this run the one to compare with.")] = False,
) -> None:
    """Compare this build with the stored figures; exit code 1 on a loss."""
    pipeline = Pipeline.load("demo", threads=1)
    weights = pipeline.spec.weights.sha256
    before = json.loads(STORED.read_text())
    if before["weights"] != weights and not store:
        sys.exit("error: the stored figures are of other weights; run: python benchmarks/guard.py --store")
    figures: Figures = {}
    for number, figures in enumerate(rounds(pipeline)):
        if number > 0 and not store and not losses(figures, before["rows"]):
            break
    if store:
        write_file(STORED, json.dumps({"weights": weights, "rows": figures}, indent=1) + "\n")
        return
    table = Table("setting", "figure", "now", "stored", "", header_style="bold", box=None)
    gone = losses(figures, before["rows"])
    for name, now in figures.items():
        for field, value in now.items():
            then = before["rows"][name][field]
            table.add_row(name, field, f"{value:.3f}", f"{then:.3f}", "[red]lost[/]" if (name, field) in gone else "")
    Console().print(table)
    sys.exit(1 if gone else 0)


if __name__ == "__main__":
    typer.run(main)
