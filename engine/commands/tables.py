"""Tables that more than one command prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.measure import Measurement
from rich.segment import Segments
from rich.table import Table

from flagdit.engine.bundle import Preset
from flagdit.engine.commands.terminal import console


def show(table: Table) -> None:
    """Print a table as wide as it is: in a pipe, or in a terminal that is too narrow, nothing of it is cut off."""
    options = console.options.update(max_width=10_000)
    needed = Measurement.get(console, options, table).maximum
    lines = console.render(table, console.options.update(width=max(needed, 1), max_width=max(needed, 1)))
    console.print(Segments(lines), soft_wrap=True)


def preset_table(presets: Sequence[Preset]) -> Table:
    """Presets of a bundle: what they compute, and the PSNR (dB) that they were measured to have.

    "chosen" is over the prompts that they were chosen by, "others" over other ones, "dense" that of plain dense steps
    of that cost on their best grid, over the same others.
    """
    table = Table(header_style="bold", box=None)
    for name in ("preset", "size", "steps", "cost", "chosen", "others", "dense"):
        table.add_column(name, justify="left" if name in ("preset", "size", "steps") else "right", no_wrap=True)
    for preset in presets:
        psnr = (preset.psnr.get(over) for over in ("chosen", "held_out", "dense"))
        near = ("-" if value is None else f"{value:.1f} dB" for value in psnr)
        table.add_row(preset.name, "x".join(map(str, preset.size)), _steps(preset), f"{preset.cost:.3f}", *near)
    return table


def _steps(preset: Preset) -> str:
    sparse = [ratio for ratio in preset.ratios if ratio < 1]
    if not sparse:
        return f"{len(preset.ratios)} dense"
    return f"{len(preset.ratios)}, {len(sparse)} of them {max(sparse):.2g} to {min(sparse):.2g}"
