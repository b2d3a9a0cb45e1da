"""Pictures at sizes the model was not trained at: as they are, with NTK scaling, proportional attention, and both.

    python benchmarks/extrapolation.py                                # the demo, 30 steps; minutes
    python benchmarks/extrapolation.py --steps 4 --out grid.png       # a try

Rows are the options, columns the sizes; a cell says how it looks, not how good it is. All are dense, so that nothing
but the options differs, and all cells of a column start from the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw
from rich.progress import track

from flagdit.engine import DENSE, Pipeline
from flagdit.engine.bundle import ModelSpec
from flagdit.engine.layout import Ntk, TokenLayout
from flagdit.engine.media.picture import INK, QUIET, fit, font, save

SIZES = ((64, 64), (128, 128), (192, 192), (128, 64))
OPTIONS: tuple[tuple[str, str, Ntk, bool], ...] = (
    ("off", "as trained", None, False),
    ("NTK", "theta x area", "auto", False),
    ("proportional", "attention", None, True),
    ("both", "NTK, proportional", "auto", True),
)
CELL, GAP, MARGIN, SIDE, HEAD = 240, 12, 24, 140, 52  # pixels; SIDE and HEAD hold the labels


def cells(pipeline: Pipeline, prompt: str, seed: int, steps: int) -> Iterator[tuple[int, int, Image.Image]]:
    """Row, column and picture of every cell."""
    places = [(row, column) for row in range(len(OPTIONS)) for column in range(len(SIZES))]
    for row, column in track(places, "painting", transient=True):
        _, _, ntk, proportional = OPTIONS[row]
        result = pipeline(
            prompt, seed=seed, steps=steps, size=SIZES[column], ntk=ntk, proportional=proportional, ras=DENSE
        )
        yield row, column, result.image


def label(draw: ImageDraw.ImageDraw, at: tuple[int, int], title: str, note: str) -> None:
    """A title and a quieter note below it."""
    draw.text(at, title, INK, font(17))
    draw.text((at[0], at[1] + 23), note, QUIET, font(13))


def empty_grid(spec: ModelSpec, prompt: str, seed: int, steps: int) -> Image.Image:
    """The sheet with all labels and no pictures."""
    width = SIDE + len(SIZES) * (CELL + GAP) - GAP + 2 * MARGIN
    height = 2 * HEAD + len(OPTIONS) * (CELL + GAP) - GAP + 2 * MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    label(draw, (MARGIN, MARGIN - 4), prompt, f"seed {seed}, {steps} steps, dense")
    for column, (w, h) in enumerate(SIZES):
        note = f"{TokenLayout.of(spec, (w, h)).tokens} tokens"
        label(draw, (MARGIN + SIDE + column * (CELL + GAP), MARGIN + HEAD), f"{w} x {h}", note)
    for row, (title, note, _, _) in enumerate(OPTIONS):
        label(draw, (MARGIN, MARGIN + 2 * HEAD + row * (CELL + GAP) + CELL // 2 - 20), title, note)
    return sheet


def main(
    bundle: Annotated[str, typer.Option(help="A bundle directory, or the demo.")] = "demo",
    prompt: Annotated[str, typer.Option()] = "a red apple on a blue background",
    seed: Annotated[int, typer.Option()] = 0,
    steps: Annotated[int, typer.Option()] = 30,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("extrapolation.png"),
) -> None:
    """Paint the grid."""
    pipeline = Pipeline.load(bundle, threads=threads)
    sheet = empty_grid(pipeline.spec, prompt, seed, steps)
    for row, column, image in cells(pipeline, prompt, seed, steps):
        size = fit(image.size, CELL, CELL)
        x = MARGIN + SIDE + column * (CELL + GAP) + (CELL - size[0]) // 2
        y = MARGIN + 2 * HEAD + row * (CELL + GAP) + (CELL - size[1]) // 2
        sheet.paste(image.resize(size, Image.Resampling.BICUBIC), (x, y))
    save(sheet, out)


if __name__ == "__main__":
    typer.run(main)
