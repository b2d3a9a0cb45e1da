"""What region-adaptive sampling did, in one picture: the result, its recomputed regions, their ages step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from flagdit.engine.media.picture import DENSE, INK, QUIET, fit, font, heat, legend
from flagdit.engine.report import StepReport

MARGIN, GAP, PANEL = 24, 24, 400  # pixels


def freshness(ages: npt.NDArray[np.int16], oldest: int) -> npt.NDArray[np.floating]:
    """Values in [0, 1] to colour ages by: bright is what was computed in the step, dark what is `oldest` >= 1."""
    return 1 - ages / oldest


def still(
    image: Image.Image,
    refreshes: npt.NDArray[np.int32],  # (lines, columns)
    ages: npt.NDArray[np.int16],  # (S, lines, columns)
    *,
    steps: Sequence[StepReport],
) -> Image.Image:
    """The picture, how often each of its patches was recomputed, and the age of all patches after each step."""
    width = 2 * PANEL + GAP
    top, strip = _panels(image, refreshes, len(steps)), _strip(ages, steps, width)
    sheet = Image.new("RGB", (width + 2 * MARGIN, top.height + strip.height + 2 * MARGIN + GAP), "white")
    sheet.paste(top, (MARGIN, MARGIN))
    sheet.paste(strip, (MARGIN, MARGIN + top.height + GAP))
    return sheet


def pair(left: Image.Image, right: npt.NDArray[np.floating], captions: tuple[str, str]) -> Image.Image:
    """A picture beside a map of values in [0, 1] at the same size, each in a panel with its caption above."""
    size, head = fit(left.size, PANEL, PANEL), 26
    sheet = Image.new("RGB", (2 * PANEL + GAP, head + size[1]), "white")
    draw, inset = ImageDraw.Draw(sheet), (PANEL - size[0]) // 2
    scaled = left.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    for x, panel, caption in zip((0, PANEL + GAP), (scaled, heat(right, size)), captions, strict=True):
        draw.text((x, 0), caption, INK, font(15))
        sheet.paste(panel, (x + inset, head))
    return sheet


def _panels(image: Image.Image, refreshes: npt.NDArray[np.int32], steps: int) -> Image.Image:
    high = int(refreshes.max())
    low = min(int(refreshes.min()), high - 1)  # of a dense run all is bright
    panels = pair(image, (refreshes - low) / (high - low), ("Picture", "How often each region was computed"))
    sheet = Image.new("RGB", (panels.width, panels.height + 44), "white")
    sheet.paste(panels)
    legend(sheet, (PANEL + GAP, panels.height + 12), PANEL, ends=(f"{low}", f"{high}"), what=f"times, in {steps} steps")
    return sheet


def _strip(ages: npt.NDArray[np.int16], steps: Sequence[StepReport], width: int) -> Image.Image:
    """Small maps of all steps, line by line, numbered as `flagdit plan` does; dense ones are framed."""
    columns = _columns(len(steps), ages.shape[1] / ages.shape[2])
    gap, label, head, oldest = 8, 20, 62, max(int(ages.max()), 1)
    cell = (width + gap) // columns - gap
    size = fit((ages.shape[2], ages.shape[1]), cell, 2 * cell)
    lines, pitch = -(-len(steps) // columns), size[1] + label + gap
    sheet = Image.new("RGB", (width, head + lines * pitch - gap), "white")
    draw = ImageDraw.Draw(sheet)
    _strip_head(sheet, draw, oldest)
    for i, (step, age) in enumerate(zip(steps, ages, strict=True)):
        x = i % columns * (width + gap) // columns + (cell - size[0]) // 2
        y = head + i // columns * pitch
        sheet.paste(heat(freshness(age, oldest), size), (x, y))
        if step.dense:
            draw.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), outline=DENSE, width=2)
        number = x + size[0] // 2, y + size[1] + 4
        draw.text(number, f"{step.index}", DENSE if step.dense else QUIET, font(12), anchor="ma")
    return sheet


def _columns(steps: int, aspect: float) -> int:
    """How many maps of that height over width stand in a line: 10 of 30 square ones, fewer if they are wide."""
    columns = min(max(round(math.sqrt(3.4 * steps * aspect)), 8), 20)
    return steps if columns < steps <= 1.3 * columns else columns  # rather than a short last line


def _strip_head(sheet: Image.Image, draw: ImageDraw.ImageDraw, oldest: int) -> None:
    draw.text((0, 0), "Age of each region after each step", INK, font(15))
    draw.rectangle((0, 29, 11, 40), outline=DENSE, width=2)
    draw.text((18, 27), "dense step: everything is computed", QUIET, font(13))
    ends = ("0: just computed", f"{oldest} steps" if oldest != 1 else "1 step")
    legend(sheet, (PANEL + GAP, 4), PANEL, ends=ends, reverse=True)
