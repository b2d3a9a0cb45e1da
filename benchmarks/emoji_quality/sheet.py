"""Generated pictures beside real ones, with what was said and what was found."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from emoji_quality.colour import FloatArray, pixels
from emoji_quality.judge import Verdict
from flagdit.engine.media.picture import save
from scenes import Scene

TALL = 112
"""Height of a picture on the sheet."""
LINES, LINE = 4, 11
RIGHT, WRONG = "#107020", "#b02020"


def write_sheet(
    path: Path,
    generated: FloatArray,
    real: FloatArray,
    scenes: Sequence[Scene],
    verdicts: Sequence[Verdict],
    columns: int = 6,
) -> None:
    """Pairs of generated and real pictures (B, 3, H, W), in columns."""
    wide = TALL * generated.shape[3] // generated.shape[2]
    cell = 2 * wide + 10, TALL + LINES * LINE + 8
    sheet = Image.new("RGB", (columns * cell[0], -(-len(scenes) // columns) * cell[1]), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (scene, verdict) in enumerate(zip(scenes, verdicts, strict=True)):
        left, top = i % columns * cell[0], i // columns * cell[1]
        for j, picture in enumerate((generated[i], real[i])):
            image = Image.fromarray(np.rint(pixels(picture)).astype(np.uint8))
            sheet.paste(image.resize((wide, TALL), Image.Resampling.NEAREST), (left + j * (wide + 2), top))
        caption = textwrap.wrap(scene.caption(), wide // 3)[: LINES - 1]
        draw.text((left, top + TALL + 1), "\n".join(caption), fill="black", font_size=10, spacing=1)
        mark(draw, (left, top + TALL + 3 + LINE * (LINES - 1)), verdict)
    save(sheet, path)


def mark(draw: ImageDraw.ImageDraw, at: tuple[int, int], verdict: Verdict) -> None:
    """Write the ranks of the objects, then whether background and place are right: green if so, else red."""
    left, top = at
    words = [(f"rank {rank}", rank == 1) for rank in verdict.ranks] + [("background", verdict.background)]
    if verdict.place is not None:
        words.append(("place", verdict.place))
    for word, right in words:
        draw.text((left, top), word, fill=RIGHT if right else WRONG, font_size=10)
        left += int(draw.textlength(word, font_size=10)) + 6
