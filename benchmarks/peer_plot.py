"""Bars of what peers.py measured: time of a picture over torch in fp32, a panel a file.

python benchmarks/peer_plot.py peers.json peers-128.json -o peers.png
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flagdit.engine.bench.plot import save
from flagdit.engine.commands.common import check_writable

COLOURS = {"torch": "#9a9a9a", "flagdit": "#1f9e89"}


def bars(axes: Any, rows: list[dict[str, Any]], title: str) -> None:
    """Draw the rows of one file, slowest first, each with its number."""
    ordered = sorted(rows, key=lambda row: row["ratio"])
    ratios = [row["ratio"] for row in ordered]
    names = [row["name"].replace("paper mode", "RAS as published") for row in ordered]
    colours = [COLOURS["flagdit" if name.startswith("flagdit") else "torch"] for name in names]
    axes.barh(names, ratios, color=colours, height=0.72)
    for place, ratio in enumerate(ratios):
        axes.text(ratio + 0.01, place, f"{ratio:.2f}", va="center", fontsize=8)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("CPU time of a picture, over torch fp32")
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def main(
    results: Annotated[list[Path], typer.Argument(help="What peers.py --json wrote.", exists=True, dir_okay=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG or SVG.")],
) -> None:
    """Draw the results of peers.py beside each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_writable(output, (".png", ".svg"))
    figure = Figure(figsize=(5.6 * len(results), 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, path in zip(figure.subplots(1, len(results), squeeze=False)[0], results, strict=True):
        found = json.loads(path.read_text())
        bars(axes, found["rows"], f"{found['model']}, {found['tokens']} tokens, {found['threads']} thread")
    save(figure, output)


if __name__ == "__main__":
    typer.run(main)
