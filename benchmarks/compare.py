"""A picture of what the time buys: same prompts and seeds, one row a setting, all but the first at about equal cost.

python benchmarks/compare.py --out compare.jpg
python benchmarks/compare.py --coarse --out coarse.jpg     # what beginning with a smaller picture does at 128x128
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from flagdit.engine import DENSE, Coarse, Pipeline, RasConfig, Result
from flagdit.engine.bench.measure import psnr
from flagdit.engine.commands.bench import PROMPTS
from flagdit.engine.commands.common import check_writable
from flagdit.engine.media import picture

SETTINGS = {
    "dense, 100 steps": {"steps": 100, "shift": 3.0, "solver": "ab2", "ras": DENSE},
    "10 even Euler steps": {"steps": 10, "shift": 1.0, "solver": "euler", "ras": DENSE},
    "10 ab2 steps on their best grid": {"steps": 10, "shift": 4.0, "solver": "ab2", "ras": DENSE},
    "RAS as published, 30 steps": {"steps": 30, "shift": 1.0, "ras": RasConfig(ratio=0.125, mode="paper")},
    "flagdit, balanced": {},
}
"""The lower four cost about a third of 30 dense steps."""
COARSE = {
    "dense, 30 steps": {"steps": 30, "shift": 1.0, "solver": "ab2", "ras": DENSE},
    "4 ab2 steps": {"steps": 4, "shift": 4.0, "solver": "ab2", "ras": DENSE},
    "5 ab2 steps": {"steps": 5, "shift": 4.0, "solver": "ab2", "ras": DENSE},
    "8 steps at 64x64, then 1": {"coarse": Coarse(2, 8, until=0.5), "steps": 1, "ras": DENSE},
    "10 steps at 64x64, then 2": {"coarse": Coarse(2), "steps": 2, "ras": DENSE},
    "10 steps at 64x64, then balanced": {"coarse": Coarse(2)},
}
"""They are other pictures than the first row's, so PSNR says nothing."""
CELL, MARGIN, LABEL = 112, 6, 20


def draw(rows: dict[str, Result], coarse: bool = False) -> Image.Image:
    """The rows below each other, each under its name and its PSNR to the first, or its cost over 30 dense steps."""
    exact = next(iter(rows.values())).latents
    width = MARGIN + len(exact) * (CELL + MARGIN)
    canvas = Image.new("RGB", (width, MARGIN + len(rows) * (CELL + LABEL + MARGIN)), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for number, (name, result) in enumerate(rows.items()):
        y = MARGIN + number * (CELL + LABEL + MARGIN)
        quality = f": {psnr(result.latents, exact).mean():.1f} dB" if number else ""
        if coarse:
            quality = f": cost {result.report.flop_ratio * len(result.report.steps) / 30:.2f}"
        pen.text((MARGIN, y), name + quality, "#333333", font)
        for column, image in enumerate(result.images):
            small = image.resize((CELL, CELL), Image.Resampling.LANCZOS)
            canvas.paste(small, (MARGIN + column * (CELL + MARGIN), y + LABEL))
    return canvas


def main(
    out: Annotated[Path, typer.Option(help="The picture to write: PNG, JPEG or WebP by its name.")],
    bundle: Annotated[str, typer.Option(help="A trained bundle.")] = "demo",
    coarse: Annotated[
        bool, typer.Option("--coarse", help="Runs that begin with a smaller picture, at 128x128.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
) -> None:
    """Paint the prompts of `flagdit bench` with every setting."""
    check_writable(out, tuple(picture.FORMATS))
    pipeline = Pipeline.load(bundle, threads=threads)
    size = (128, 128) if coarse else None
    rows = {
        name: pipeline(prompts=PROMPTS, size=size, **options)  # type: ignore[arg-type]
        for name, options in track((COARSE if coarse else SETTINGS).items(), "painting")
    }
    picture.save(draw(rows, coarse), out, quality=88)


if __name__ == "__main__":
    typer.run(main)
