"""A picture of what the time buys: same prompts and seeds, one row a setting, all but the first at about equal cost.

python benchmarks/compare.py --out compare.jpg
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from flagdit.engine import DENSE, Pipeline, RasConfig, Result, picture
from flagdit.engine.bench.measure import psnr
from flagdit.engine.commands.bench import PROMPTS
from flagdit.engine.commands.common import check_writable

SETTINGS = {
    "dense, 100 steps": {"steps": 100, "shift": 3.0, "solver": "ab2", "ras": DENSE},
    "10 even Euler steps": {"steps": 10, "shift": 1.0, "solver": "euler", "ras": DENSE},
    "10 ab2 steps on their best grid": {"steps": 10, "shift": 4.0, "solver": "ab2", "ras": DENSE},
    "RAS as published, 30 steps": {"steps": 30, "shift": 1.0, "ras": RasConfig(ratio=0.125, mode="paper")},
    "flagdit, balanced": {},
}
"""The lower four cost about a third of 30 dense steps."""
CELL, MARGIN, LABEL = 112, 6, 20


def draw(rows: dict[str, Result]) -> Image.Image:
    """The rows below each other, each under its name and its PSNR to the first."""
    exact = next(iter(rows.values())).latents
    width = MARGIN + len(exact) * (CELL + MARGIN)
    canvas = Image.new("RGB", (width, MARGIN + len(rows) * (CELL + LABEL + MARGIN)), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for number, (name, result) in enumerate(rows.items()):
        y = MARGIN + number * (CELL + LABEL + MARGIN)
        quality = f": {psnr(result.latents, exact).mean():.1f} dB" if number else ""
        pen.text((MARGIN, y), name + quality, "#333333", font)
        for column, image in enumerate(result.images):
            small = image.resize((CELL, CELL), Image.Resampling.LANCZOS)
            canvas.paste(small, (MARGIN + column * (CELL + MARGIN), y + LABEL))
    return canvas


def main(
    out: Annotated[Path, typer.Option(help="The picture to write: PNG, JPEG or WebP by its name.")],
    bundle: Annotated[str, typer.Option(help="A trained bundle.")] = "demo",
    threads: Annotated[int | None, typer.Option(min=1)] = None,
) -> None:
    """Paint the prompts of `flagdit bench` with every setting."""
    check_writable(out, tuple(picture.FORMATS))
    pipeline = Pipeline.load(bundle, threads=threads)
    rows = {
        name: pipeline(prompts=PROMPTS, **options)  # type: ignore[arg-type]
        for name, options in track(SETTINGS.items(), "painting")
    }
    picture.save(draw(rows), out, quality=88)


if __name__ == "__main__":
    typer.run(main)
