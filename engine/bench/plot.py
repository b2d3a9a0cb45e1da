"""The Pareto front of quality over time, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flagdit.engine.bench.measure import Entry
from flagdit.engine.bench.settings import FAMILIES
from flagdit.files import write_file
from flagdit.files.printable import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "dense": "#9a9a9a",
    "ab2": "#4c4c4c",
    "paper": "#e08a3c",
    "uncalibrated": "#9fd4b8",
    "flagdit": "#1f9e89",
}


def front(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that no other beats in time and PSNR at once, fastest first."""
    best: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (entry.time, -entry.psnr)):
        if not best or entry.psnr > best[-1].psnr:
            best.append(entry)
    return best


def save(figure: Figure, path: Path) -> None:
    """Write a figure of matplotlib whole or not at all, in the format of its name. Raises OutputError."""
    file = io.BytesIO()
    figure.savefig(file, format=path.suffix[1:].lower())
    write_file(path, file.getbuffer())


def pareto(entries: Sequence[Entry], path: Path, title: str) -> None:
    """Draw PSNR over time, one line for the front of each family. Raises OutputError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for family, label in FAMILIES.items():
        own = [entry for entry in entries if entry.family == family]
        if not own:
            continue
        line = front(own)
        wide = 2.6 if family == "flagdit" else 1.6
        axes.plot([r.time for r in line], [r.psnr for r in line], color=COLOURS[family], lw=wide, label=label)
        axes.errorbar(
            [r.time for r in own],
            [r.psnr for r in own],
            yerr=[r.psnr_error for r in own],
            fmt="o",
            ms=4,
            lw=0.8,
            color=COLOURS[family],
        )
    axes.set_xlabel("CPU time, of 30 dense Euler steps")
    axes.set_ylabel("PSNR to 100 dense steps, dB")
    axes.set_title(printable(title), loc="left", parse_math=False)  # a model's name may hold a $
    axes.set_xlim(0, 1.05)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    save(figure, path)
