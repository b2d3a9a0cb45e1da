"""A sheet of pictures from a bundle: `python examples/emoji/showcase.py --out sheet.jpg`."""

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from flagdit.engine import Pipeline
from flagdit.engine.commands.common import check_writable
from flagdit.engine.media import picture

HERE = Path(__file__).parent
CELL, MARGIN, LINE = 128, 6, 12


def words(text: str, width: int) -> list[str]:
    """A caption in lines of at most `width` characters, without what every caption has."""
    lines = [""]
    for word in text.removeprefix("a ").removeprefix("an ").replace(" background", "").split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if len(longer) <= width else [*lines, word]
    return lines


def sheet(pictures: list[Image.Image], titles: list[str], columns: int) -> Image.Image:
    """Pictures row by row, each above its caption."""
    step_x, step_y = CELL + MARGIN, CELL + MARGIN + 2 * LINE + 4
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * step_x + MARGIN, rows * step_y + MARGIN), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    for i, (image, title) in enumerate(zip(pictures, titles, strict=True)):
        x, y = MARGIN + i % columns * step_x, MARGIN + i // columns * step_y
        canvas.paste(image.resize((CELL, CELL), Image.Resampling.LANCZOS), (x, y))
        for number, line in enumerate(words(title, 24)[:2]):
            draw.text((x + CELL // 2, y + CELL + 2 + number * LINE), line, "#333333", font, anchor="ma")
    return canvas


def main(
    out: Annotated[Path, typer.Option(help="The picture to write: PNG, JPEG or WebP by its name.")],
    bundle: Annotated[str, typer.Option(help="A bundle of the demo.")] = "demo",
    prompts: Annotated[Path, typer.Option(help="One prompt a line.")] = HERE / "showcase.txt",
    preset: Annotated[str, typer.Option(help="quality, balanced or fast.")] = "balanced",
    columns: Annotated[int, typer.Option(min=1)] = 8,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
) -> None:
    """Paint every prompt with seed 0, 1, 2, ... in the order of the file; nothing is picked."""
    check_writable(out, tuple(picture.FORMATS))
    texts = prompts.read_text().splitlines()
    pipeline = Pipeline.load(bundle, threads=threads)
    pictures: list[Image.Image] = []
    for first in track(range(0, len(texts), batch), "painting"):
        pictures += pipeline(prompts=texts[first : first + batch], seed=first, preset=preset).images
    picture.save(sheet(pictures, texts, columns), out, quality=88)


if __name__ == "__main__":
    typer.run(main)
